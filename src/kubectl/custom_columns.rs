//! `-o custom-columns=HEADER:path,...`: a table of JSONPaths.
//!
//! Follows `kubectl/pkg/cmd/get/customcolumn.go`.

use serde_json::Value;

use super::error::{Error, Result};
use super::tabs;
use crate::api::jsonpath::Template;

/// Headers and where their values are.
#[derive(Debug)]
pub struct Columns {
    columns: Vec<(String, Template)>,
}

impl Columns {
    /// Reads `HEADER:path,HEADER:path`.
    pub fn parse(spec: &str) -> Result<Columns> {
        let column = |part: &str| match part.split_once(':') {
            Some((header, path)) if !header.is_empty() && !path.is_empty() => Ok((header.to_string(), Template::relaxed(path)?)),
            _ => Error::usage(format!("unexpected custom-columns spec: {part}, expected <header>:<json-path-expr>")),
        };
        Ok(Columns { columns: spec.split(',').map(column).collect::<Result<_>>()? })
    }

    /// Reads a file of two lines: headers, and paths below them.
    pub fn parse_file(text: &str) -> Result<Columns> {
        let mut lines = text.lines();
        let (headers, paths) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        let (headers, paths): (Vec<_>, Vec<_>) = (headers.split_whitespace().collect(), paths.split_whitespace().collect());
        if headers.is_empty() || headers.len() != paths.len() {
            return Error::usage(format!("number of headers ({}) and field specifications ({}) don't match", headers.len(), paths.len()));
        }
        let columns = headers.iter().zip(paths).map(|(header, path)| Ok((header.to_string(), Template::relaxed(path)?)));
        Ok(Columns { columns: columns.collect::<Result<_>>()? })
    }

    /// The table.
    pub fn render(&self, items: &[&Value], headers: bool) -> Result<String> {
        let mut text = String::new();
        if headers {
            let headers: Vec<&str> = self.columns.iter().map(|(header, _)| header.as_str()).collect();
            text = format!("{}\n", headers.join("\t"));
        }
        for item in items {
            let mut cells = Vec::with_capacity(self.columns.len());
            for (_, path) in &self.columns {
                let values = path.values(item)?;
                let shown: Vec<String> = values.iter().map(|value| crate::api::jsonpath::show(value)).collect();
                cells.push(if shown.is_empty() { "<none>".to_string() } else { shown.join(",") });
            }
            text.push_str(&cells.join("\t"));
            text.push('\n');
        }
        Ok(tabs::align(&text, 6, 3))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns() {
        let pod: Value = serde_yaml::from_str("{metadata: {name: a}, spec: {containers: [{image: x}, {image: y}]}}").unwrap();
        let columns = Columns::parse("NAME:.metadata.name,IMAGES:spec.containers[*].image,NODE:{.spec.nodeName}").unwrap();
        assert_eq!(columns.render(&[&pod], true).unwrap(), "NAME   IMAGES   NODE\na      x,y      <none>\n");
        assert_eq!(columns.render(&[&pod], false).unwrap(), "a     x,y   <none>\n");
        let file = Columns::parse_file("NAME\nmetadata.name\n").unwrap();
        assert_eq!(file.render(&[&pod], true).unwrap(), "NAME\na\n");
        for bad in ["NAME", "NAME:", ":x", "A:.b[", ""] {
            assert!(Columns::parse(bad).is_err(), "{bad}");
        }
    }
}
