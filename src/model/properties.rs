//! Java properties files as Spark reads them: UTF-8, with trimmed values.

use std::collections::BTreeMap;

use encoding_rs::UTF_8;
use java_properties::PropertiesIter;

/// The properties of a text, up to the first line that Java refuses.
pub fn parse(text: &str) -> BTreeMap<String, String> {
    let mut conf = BTreeMap::new();
    let lines = PropertiesIter::new_with_encoding(text.as_bytes(), UTF_8).read_into(|key, value| {
        conf.insert(key, value.trim().to_owned());
    });
    if let Err(error) = lines {
        tracing::info!("failed to read properties: {error}");
    }
    conf
}

/// Formats one property per line. Not delegated to a library, whose changes would restart pods: they restart when their configuration changes.
pub fn write(conf: &BTreeMap<String, String>) -> String {
    conf.iter()
        .map(|(key, value)| format!("{}={}\n", escape(key, true), escape(value, false)))
        .collect()
}

/// Escapes separators in keys, and a leading space in values.
fn escape(text: &str, key: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for (at, c) in text.chars().enumerate() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            '\u{c}' => escaped.push_str("\\f"),
            ' ' if key || at == 0 => escaped.push_str("\\ "),
            '=' | ':' | '#' | '!' if key => escaped.extend(['\\', c]),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn conf<const N: usize>(properties: [(&str, &str); N]) -> BTreeMap<String, String> {
        properties.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
    }

    #[test]
    fn properties_are_escaped_for_java() {
        assert_eq!(
            write(&conf([
                ("spark.a b", " leading, trailing "),
                ("spark.c=d:e", "C:\\path\nsecond line"),
            ])),
            "spark.a\\ b=\\ leading, trailing \nspark.c\\=d\\:e=C:\\\\path\\nsecond line\n"
        );
    }

    #[test]
    fn properties_are_parsed_like_java_does() {
        let text = "a=1\n b : two words \n!no\n# no=no\nc three\nd=x\\\n  y\n\ne\\ f=C:\\\\x\\ty\\u00e4ä\n\nbroken=\\u00\nlater=1\n";
        let expected = [
            ("a", "1"),
            ("b", "two words"),
            ("c", "three"),
            ("d", "xy"),
            ("e f", "C:\\x\tyää"),
        ];
        assert_eq!(parse(text), conf(expected));
    }

    proptest! {
        #[test]
        fn formatted_properties_parse_back(key in "[ -~ä]{1,20}", value in "[\\PC\t\n\r\u{c}]{0,30}") {
            let conf = conf([(&key, value.trim())]);
            prop_assert_eq!(parse(&write(&conf)), conf);
        }
    }
}
