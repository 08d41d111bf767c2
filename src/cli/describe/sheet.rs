//! A page of headings, fields and tables, aligned as Go's tabwriter does for kubectl.
//!
//! Invariant: fields that follow each other without a heading between them share one
//! column, whatever their depth.

/// Columns are this far apart.
const GAP: usize = 2;

#[derive(Debug)]
enum Line {
    Field {
        head: String,
        value: String,
    },
    /// Breaks the column.
    Plain(String),
}

/// A page in the making.
#[derive(Debug, Default)]
pub(super) struct Sheet {
    lines: Vec<Line>,
}

fn indent(level: usize) -> String {
    "  ".repeat(level)
}

impl Sheet {
    /// `Key:  value`
    pub(super) fn field(&mut self, level: usize, key: &str, value: impl ToString) {
        let head = format!("{}{key}:", indent(level));
        self.lines.push(Line::Field { head, value: value.to_string() });
    }

    /// The same where there is something to say.
    pub(super) fn some(&mut self, level: usize, key: &str, value: &str) {
        if !value.is_empty() {
            self.field(level, key, value);
        }
    }

    /// One value a line, under one another; `<none>` if there is none.
    pub(super) fn many(&mut self, level: usize, key: &str, values: &[String]) {
        let Some((first, rest)) = values.split_first() else {
            return self.field(level, key, "<none>");
        };
        self.field(level, key, first);
        for value in rest {
            self.lines.push(Line::Field { head: String::new(), value: value.clone() });
        }
    }

    /// `Key:` with what belongs to it below.
    pub(super) fn heading(&mut self, level: usize, key: &str) {
        self.plain(level, &format!("{key}:"));
    }

    /// A line of text.
    pub(super) fn plain(&mut self, level: usize, text: &str) {
        self.lines.push(Line::Plain(format!("{}{text}", indent(level))));
    }

    /// Rows under a header that is underlined, as kubectl has them.
    pub(super) fn table(&mut self, level: usize, header: &[&str], rows: &[Vec<String>]) {
        let ruled = header.iter().map(|name| "-".repeat(name.len())).collect();
        let names = header.iter().map(|name| (*name).to_owned()).collect();
        let all: Vec<&Vec<String>> = [&names, &ruled].into_iter().chain(rows).collect();
        let width = |at: usize| {
            let cells = all.iter().filter_map(|row| row.get(at));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0) + GAP
        };
        let widths: Vec<usize> = (0..header.len()).map(width).collect();
        for row in all {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            self.plain(level, cells.collect::<String>().trim_end());
        }
    }

    /// The page as text.
    pub(super) fn render(&self) -> String {
        let mut text = String::new();
        let mut rest = self.lines.as_slice();
        while let Some(line) = rest.first() {
            let fields = rest.iter().take_while(|line| matches!(line, Line::Field { .. })).count();
            if let Line::Plain(plain) = line {
                text.push_str(plain);
                text.push('\n');
                rest = &rest[1..];
                continue;
            }
            let (block, after) = rest.split_at(fields);
            let heads = block.iter().map(|line| match line {
                Line::Field { head, .. } => head.chars().count(),
                Line::Plain(_) => 0,
            });
            let width = heads.max().unwrap_or(0) + GAP;
            for line in block {
                if let Line::Field { head, value } = line {
                    // A value of several lines goes on in its own column.
                    for (at, part) in
                        value.lines().chain(value.is_empty().then_some("")).enumerate()
                    {
                        let head = if at == 0 { head.as_str() } else { "" };
                        text.push_str(format!("{head:<width$}{part}").trim_end());
                        text.push('\n');
                    }
                }
            }
            rest = after;
        }
        text
    }
}
