//! `--token-auth-file`: lines of `token,user,uid,"group1,group2"`.
//!
//! Follows upstream's `apiserver/pkg/authentication/token/tokenfile`. Invariant: tokens are kept as digests only.

use std::collections::HashMap;

use super::digest;
use super::files::FileError;
use crate::server::registry::User;

/// Most tokens of one file.
const MAX_LINES: usize = 100_000;

/// The tokens of one file.
#[derive(Default)]
pub struct StaticTokens(HashMap<[u8; 32], User>);

impl StaticTokens {
    /// Reads the file's text. The error says which line is wrong, and nothing of what is in it.
    pub fn parse(text: &str) -> Result<StaticTokens, FileError> {
        let wrong = |line: u64, why: String| FileError::Line { line, why };
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).trim(csv::Trim::All).from_reader(text.as_bytes());
        let mut tokens = HashMap::new();
        for record in reader.records() {
            let record = record.map_err(|error| wrong(error.position().map_or(0, csv::Position::line), "it is no line of CSV".into()))?;
            let line = record.position().map_or(0, csv::Position::line);
            if record.len() < 3 {
                return Err(wrong(line, format!("it must have at least 3 columns (token, user name, user uid), found {}", record.len())));
            }
            let part = |index: usize| record.get(index).unwrap_or_default();
            if part(0).is_empty() || part(1).is_empty() {
                return Err(wrong(line, "token and user name may not be empty".into()));
            }
            let groups = part(3).split(',').map(str::trim).filter(|group| !group.is_empty()).map(String::from).collect();
            let user = User { name: part(1).into(), uid: part(2).into(), groups, ..User::default() };
            if tokens.insert(digest(part(0).as_bytes()), user).is_some() {
                tracing::warn!(line, "a token is there more than once in the token file; the last line counts");
            }
            if tokens.len() > MAX_LINES {
                return Err(wrong(line, format!("there are more than {MAX_LINES} tokens")));
            }
        }
        Ok(StaticTokens(tokens))
    }

    /// Whose token this is.
    pub fn user(&self, token: &str) -> Option<User> {
        self.0.get(&digest(token.as_bytes())).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let tokens = StaticTokens::parse("t1,ann,1,\"a,b\"\nt2, bob ,2\n\nt3,eve,3,,more\n").unwrap();
        let ann = tokens.user("t1").unwrap();
        assert_eq!((ann.name.as_str(), ann.uid.as_str(), ann.groups.as_slice()), ("ann", "1", &["a".to_owned(), "b".to_owned()][..]));
        assert_eq!(tokens.user("t2").unwrap().name, "bob");
        assert!(tokens.user("t3").unwrap().groups.is_empty() && tokens.user("t4").is_none());
        for (text, want) in [
            ("secret,ann", "line 1: it must have at least 3 columns (token, user name, user uid), found 2"),
            ("a,b,c\n,x,1", "line 2: token and user name may not be empty"),
        ] {
            let error = StaticTokens::parse(text).err().unwrap().to_string();
            assert_eq!(error, want);
            assert!(!error.contains("secret"));
        }
    }
}
