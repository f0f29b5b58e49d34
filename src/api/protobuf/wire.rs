//! The wire format: tags, varints, lengths. Follows protobuf's "Encoding" page; groups are only skipped, as gogo-protobuf does.

use super::Error;

pub(super) const VARINT: u32 = 0;
pub(super) const FIXED64: u32 = 1;
pub(super) const LENGTH_DELIMITED: u32 = 2;
const START_GROUP: u32 = 3;
const END_GROUP: u32 = 4;
const FIXED32: u32 = 5;

/// The value of one field, undecoded.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    /// A group or 32 fixed bits: no field of ours has one.
    Other,
}

/// Reads the fields of one message.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { left: bytes }
    }

    /// The next field's number and value.
    pub fn next(&mut self) -> Result<Option<(u32, Wire<'a>)>, Error> {
        if self.left.is_empty() {
            return Ok(None);
        }
        let (number, kind) = self.tag()?;
        let value = match kind {
            VARINT => Wire::Varint(self.varint()?),
            FIXED64 => Wire::Fixed64(u64::from_le_bytes(*self.array()?)),
            LENGTH_DELIMITED => Wire::Bytes(self.bytes()?),
            FIXED32 => self.array::<4>().map(|_| Wire::Other)?,
            START_GROUP => self.skip_group().map(|()| Wire::Other)?,
            _ => return Err(Error::IllegalTag(u64::from(kind))),
        };
        Ok(Some((number, value)))
    }

    fn tag(&mut self) -> Result<(u32, u32), Error> {
        let tag = self.varint()?;
        match u32::try_from(tag >> 3) {
            Ok(number @ 1..) => Ok((number, (tag & 7) as u32)),
            _ => Err(Error::IllegalTag(tag)),
        }
    }

    /// What follows a group's start, up to its end. Nesting costs no stack.
    fn skip_group(&mut self) -> Result<(), Error> {
        let mut open = 1usize;
        while open > 0 {
            match self.tag()?.1 {
                VARINT => drop(self.varint()?),
                FIXED64 => drop(self.array::<8>()?),
                LENGTH_DELIMITED => drop(self.bytes()?),
                FIXED32 => drop(self.array::<4>()?),
                START_GROUP => open += 1,
                END_GROUP => open -= 1,
                other => return Err(Error::IllegalTag(u64::from(other))),
            }
        }
        Ok(())
    }

    /// One varint.
    pub fn varint(&mut self) -> Result<u64, Error> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.left.split_first().ok_or(Error::Truncated)?;
            self.left = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Error::Overflow)
    }

    /// Whether all was read.
    pub fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], Error> {
        let (array, rest) = self.left.split_first_chunk::<N>().ok_or(Error::Truncated)?;
        self.left = rest;
        Ok(array)
    }

    fn bytes(&mut self) -> Result<&'a [u8], Error> {
        let length = usize::try_from(self.varint()?).map_err(|_| Error::Truncated)?;
        let (bytes, rest) = self.left.split_at_checked(length).ok_or(Error::Truncated)?;
        self.left = rest;
        Ok(bytes)
    }
}

/// Appends a varint.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// How many bytes [`put_varint`] appends.
pub(super) fn varint_length(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_go_both_ways() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!((out.len(), Reader::new(&out).varint().unwrap()), (varint_length(value), value));
        }
        assert!(matches!(Reader::new(&[0xff; 11]).varint(), Err(Error::Overflow)));
        assert!(matches!(Reader::new(&[0xff; 3]).varint(), Err(Error::Truncated)));
    }

    #[test]
    fn hostile_fields_are_refused() {
        for (bytes, good) in [
            (&[0x08, 0x01][..], true),
            // Groups are skipped, however deep, when they end.
            (&[0x0b, 0x13, 0x08, 0x01, 0x14, 0x0c], true),
            (&[0x0b, 0x0b], false),
            // An end without a start, field number 0, a length beyond the end, wire type 7.
            (&[0x0c], false),
            (&[0x00, 0x01], false),
            (&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], false),
            (&[0x0f], false),
        ] {
            let mut reader = Reader::new(bytes);
            let outcome = std::iter::from_fn(|| reader.next().transpose()).take(100).collect::<Result<Vec<_>, _>>();
            assert_eq!(outcome.is_ok(), good, "{bytes:?}");
        }
    }
}
