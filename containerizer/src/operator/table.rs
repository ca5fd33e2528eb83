//! Columns for people. PURE.

/// Rows under their headings, each column as wide as its widest cell; the last one is not filled up.
pub(super) fn text(headings: &[&str], rows: &[Vec<String>]) -> String {
    let width_of = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(headings[column].chars().count())
    };
    let widths: Vec<usize> = (0..headings.len()).map(width_of).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (cell, width) in cells.zip(&widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        line.trim_end().to_owned() + "\n"
    };
    let mut text = line(&mut headings.iter().copied());
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

/// A time span as short as people say it: `42s`, `7m`, `3h`, `12d`.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7199 => format!("{}m", seconds / 60),
        7200..=172_799 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// An amount of memory or disk: `512 B`, `63.5 MB`, `7.2 GB` (of 1024 each, as Mesos counts).
pub(super) fn bytes(bytes: u64) -> String {
    const KIB: f64 = 1024.0;
    let amount = bytes as f64;
    if amount < KIB {
        return format!("{bytes} B");
    }
    let units = ["KB", "MB", "GB", "TB"];
    let mut amount = amount / KIB;
    let mut unit = 0;
    while amount >= KIB && unit + 1 < units.len() {
        amount /= KIB;
        unit += 1;
    }
    format!("{amount:.1} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let rows = [vec!["a".to_owned(), "longer".to_owned()], vec!["bcd".to_owned(), String::new()]];
        assert_eq!(text(&["ID", "STATE"], &rows), "ID   STATE\na    longer\nbcd\n");
        assert_eq!(text(&["ID", "STATE"], &[]), "ID  STATE\n");
    }

    #[test]
    fn amounts_are_short() {
        assert_eq!([0, 119, 120, 7300, 200_000].map(span), ["0s", "119s", "2m", "2h", "2d"]);
        assert_eq!([5, 1536, 64 << 20, 3 << 40].map(bytes), ["5 B", "1.5 KB", "64.0 MB", "3.0 TB"]);
    }
}
