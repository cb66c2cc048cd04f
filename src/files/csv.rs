//! Lines of comma-separated values, as RFC 4180 has them.

/// One line with its end. Fields are quoted where they need it.
pub(crate) fn csv_line(fields: impl IntoIterator<Item = String>) -> String {
    let fields: Vec<String> = fields.into_iter().map(quoted).collect();
    fields.join(",") + "\n"
}

fn quoted(field: String) -> String {
    match field.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field,
    }
}

#[cfg(test)]
mod tests {
    use super::csv_line;

    #[test]
    fn fields_are_quoted_where_they_need_it() {
        let line = csv_line(["a", "", "b, c", "say \"d\"", "e\nf"].map(str::to_owned));
        assert_eq!(line, "a,,\"b, c\",\"say \"\"d\"\"\",\"e\nf\"\n");
    }
}
