//! Header blocks of SPDY/3.1 (draft-mbelshe-httpbis-spdy-00, 2.6.10): name/value pairs in one zlib stream per direction, primed
//! with a dictionary that the draft gives.

use std::collections::BTreeMap;
use std::io;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Most bytes that a header block may unpack to.
const MAX_BLOCK: usize = 64 << 10;

/// Words of the dictionary, each preceded by its length as a 32-bit number.
const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow \
    authorization cache-control connection content-base content-encoding content-language content-length content-location content-md5 \
    content-range content-type date etag expect expires from host if-match if-modified-since if-none-match if-range if-unmodified-since \
    last-modified location max-forwards pragma proxy-authenticate proxy-authorization range referer retry-after server te trailer \
    transfer-encoding upgrade user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public \
    set-cookie keep-alive origin";

/// What follows them, without lengths.
const TAIL: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative \
Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 \
Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, \
GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-\
age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

fn dictionary() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1423);
    for word in WORDS.split_whitespace() {
        let word = word.replace('_', " ");
        bytes.extend_from_slice(&(word.len() as u32).to_be_bytes());
        bytes.extend_from_slice(word.as_bytes());
    }
    bytes.extend_from_slice(TAIL.as_bytes());
    bytes
}

/// Headers of a stream; names in lower case.
pub type Headers = BTreeMap<String, String>;

fn broken(why: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("SPDY header block: {why}"))
}

/// Reads the header blocks of one direction.
pub(super) struct Reader {
    inflate: Decompress,
    primed: bool,
}

impl Reader {
    pub(super) fn new() -> Reader {
        Reader { inflate: Decompress::new(true), primed: false }
    }

    pub(super) fn read(&mut self, block: &[u8]) -> io::Result<Headers> {
        parse(&self.inflate(block)?)
    }

    fn inflate(&mut self, block: &[u8]) -> io::Result<Vec<u8>> {
        let (mut plain, mut used) = (Vec::with_capacity(1024), 0);
        loop {
            if plain.len() == plain.capacity() {
                if plain.len() >= MAX_BLOCK {
                    return Err(broken(format!("it unpacks to more than {MAX_BLOCK} bytes")));
                }
                plain.reserve(4096);
            }
            let (before_in, before_out) = (self.inflate.total_in(), plain.len());
            let result = self.inflate.decompress_vec(&block[used..], &mut plain, FlushDecompress::Sync);
            used += (self.inflate.total_in() - before_in) as usize;
            match result {
                Err(error) if error.needs_dictionary().is_some() && !self.primed => {
                    self.inflate.set_dictionary(&dictionary()).map_err(broken)?;
                    self.primed = true;
                }
                Err(error) => return Err(broken(error)),
                Ok(Status::StreamEnd) => return Err(broken("it ends the compressed stream")),
                Ok(_) if plain.len() < plain.capacity() => {
                    // Room is left, so all that can be had was had.
                    return if used == block.len() { Ok(plain) } else { Err(broken("it has trailing bytes")) };
                }
                Ok(_) if used == block.len() && plain.len() == before_out => return Ok(plain),
                Ok(_) => {}
            }
        }
    }
}

fn parse(mut block: &[u8]) -> io::Result<Headers> {
    fn number(block: &mut &[u8]) -> io::Result<usize> {
        let (bytes, rest) = block.split_first_chunk::<4>().ok_or_else(|| broken("it is cut"))?;
        *block = rest;
        Ok(u32::from_be_bytes(*bytes) as usize)
    }
    fn text(block: &mut &[u8]) -> io::Result<String> {
        let length = number(block)?;
        let (bytes, rest) = block.split_at_checked(length).ok_or_else(|| broken("it is cut"))?;
        *block = rest;
        String::from_utf8(bytes.to_vec()).map_err(broken)
    }
    let count = number(&mut block)?;
    let mut headers = Headers::new();
    for _ in 0..count {
        let name = text(&mut block)?.to_ascii_lowercase();
        headers.insert(name, text(&mut block)?);
    }
    Ok(headers)
}

/// Writes the header blocks of one direction.
pub(super) struct Writer {
    deflate: Compress,
}

impl Writer {
    pub(super) fn new() -> Writer {
        let mut deflate = Compress::new(Compression::fast(), true);
        deflate.set_dictionary(&dictionary()).expect("a new stream takes a dictionary");
        Writer { deflate }
    }

    pub(super) fn write(&mut self, headers: &Headers) -> Vec<u8> {
        let mut plain = (headers.len() as u32).to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend_from_slice(&(text.len() as u32).to_be_bytes());
            plain.extend_from_slice(text.as_bytes());
        }
        let mut block = Vec::with_capacity(plain.len() + 128);
        let start = self.deflate.total_in();
        loop {
            let used = (self.deflate.total_in() - start) as usize;
            self.deflate.compress_vec(&plain[used..], &mut block, FlushCompress::Sync).expect("deflate takes any bytes");
            if block.len() < block.capacity() {
                return block;
            }
            block.reserve(1024);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dictionary_is_the_drafts() {
        let dictionary = dictionary();
        assert_eq!(dictionary.len(), 1423);
        // The identifier that every SPDY/3 zlib stream begins with.
        let adler =
            dictionary.iter().fold((1u32, 0u32), |(a, b), byte| ((a + u32::from(*byte)) % 65521, (b + a + u32::from(*byte)) % 65521));
        assert_eq!((adler.1 << 16) | adler.0, 0xe3c6_a7c2);
    }

    #[test]
    fn blocks_round_trip_in_one_stream() {
        let (mut writer, mut reader) = (Writer::new(), Reader::new());
        for n in 0..50 {
            let headers: Headers = (0..n).map(|i| (format!("name{i}"), "v".repeat(i * 37))).collect();
            assert_eq!(reader.read(&writer.write(&headers)).expect("reads"), headers);
        }
    }

    #[test]
    fn broken_blocks_are_refused() {
        let block = Writer::new().write(&[("streamtype".into(), "stdin".into())].into());
        for cut in 1..block.len() {
            // A cut block is an error or, cut within the trailing flush, the whole.
            if let Ok(headers) = Reader::new().read(&block[..cut]) {
                assert_eq!(headers.len(), 1, "cut at {cut}");
            }
        }
        assert!(Reader::new().read(b"hello").is_err());
        let bomb = Writer::new().write(&[("a".into(), "x".repeat(1 << 20))].into());
        assert!(Reader::new().read(&bomb).is_err(), "bounded");
    }
}
