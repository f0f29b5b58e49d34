//! Elastic tab stops: columns as wide as their widest cell, over consecutive lines that have that column.
//!
//! Behaves as Go's `text/tabwriter` with spaces for padding, which all of kubectl's columns are made with.

/// Aligns the tab-separated cells of `text`; what follows a line's last tab is left as it is.
pub fn align(text: &str, min_width: usize, padding: usize) -> String {
    let lines: Vec<Vec<&str>> = text.split('\n').map(|line| line.split('\t').collect()).collect();
    let mut writer = Writer { lines, min_width, padding, out: String::new(), widths: Vec::new() };
    let end = writer.lines.len();
    writer.format(0, end);
    // The last line break made one line too many.
    writer.out.pop();
    writer.out
}

struct Writer<'a> {
    lines: Vec<Vec<&'a str>>,
    min_width: usize,
    padding: usize,
    out: String,
    widths: Vec<usize>,
}

impl Writer<'_> {
    fn has(&self, line: usize, column: usize) -> bool {
        column + 1 < self.lines[line].len()
    }

    fn format(&mut self, mut start: usize, end: usize) {
        let column = self.widths.len();
        let mut line = start;
        while line < end {
            if !self.has(line, column) {
                line += 1;
                continue;
            }
            self.write(start, line);
            start = line;
            let mut width = self.min_width;
            while line < end && self.has(line, column) {
                width = width.max(self.lines[line][column].chars().count() + self.padding);
                line += 1;
            }
            self.widths.push(width);
            self.format(start, line);
            self.widths.pop();
            start = line;
        }
        self.write(start, end);
    }

    fn write(&mut self, start: usize, end: usize) {
        for line in &self.lines[start..end] {
            for (column, cell) in line.iter().enumerate() {
                self.out.push_str(cell);
                if let Some(width) = self.widths.get(column).filter(|_| column + 1 < line.len()) {
                    self.out.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
                }
            }
            self.out.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns() {
        assert_eq!(align("NAME\tREADY\tAGE\nlonger-name\t1/1\t5s\n", 6, 3), "NAME          READY   AGE\nlonger-name   1/1     5s\n");
        assert_eq!(align("A:\tx\nLonger:\ty\nno tab\nB:\tz\n", 0, 2), "A:       x\nLonger:  y\nno tab\nB:  z\n");
        assert_eq!(align("a\tb\tc\nlong\td\nx\tyy\tz\n", 0, 1), "a    b c\nlong d\nx    yy z\n");
        assert_eq!(align("a\t\tc\n", 0, 2), "a    c\n");
        assert_eq!(align("", 0, 2), "");
    }
}
