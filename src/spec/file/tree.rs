//! Parses YAML 1.2 into plain values, with the position of each value. Aliases and merge keys (`<<`) are expanded, with
//! limits, so that a small file cannot expand into a huge one.

use std::collections::HashMap;

use serde_json::{Map, Value};
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use crate::spec::problem::Problem;

/// Maximum number of values with all aliases expanded; a cluster file has a few hundred.
const MOST_NODES: usize = 20_000;
/// Maximum nesting with all aliases expanded; Kubernetes' most nested type in the file needs about 12.
const DEEPEST: usize = 40;

/// Line and column, from 1.
type Position = (u64, u64);

/// The position of each path of a document, e.g. `workers.volumes[0].name`.
#[derive(Clone, Debug, Default)]
pub struct Positions {
    values: HashMap<String, Position>,
    keys: HashMap<String, Position>,
    texts: HashMap<String, String>,
}

impl Positions {
    /// Line and column of a path, or of its longest prefix in the document.
    pub fn nearest(&self, path: &str) -> Position {
        let mut path = path;
        loop {
            if let Some(&location) = self.values.get(path) {
                return location;
            }
            match path.rfind(['.', '[']) {
                Some(at) => path = &path[..at],
                None => return self.values.get("").copied().unwrap_or((1, 1)),
            }
        }
    }

    /// Line and column of the last key of a path.
    pub fn key(&self, path: &str) -> Position {
        self.keys.get(path).copied().unwrap_or_else(|| self.nearest(path))
    }

    /// A number or boolean as written: `1.10`, not `1.1`.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.texts.get(path).map(String::as_str)
    }
}

/// Joins a path and a key.
pub fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// Parses a document. Duplicate keys are problems; invalid YAML is the error.
pub fn read(text: &str) -> Result<(Value, Positions, Vec<Problem>), Problem> {
    let mut reader = YamlReader {
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        depth: 0,
    };
    let mut flattener = Flattener::default();
    let value = match reader.document()? {
        Some(root) if !root.is_null() => flattener.value(&root, String::new()),
        // Only comments.
        _ => Value::Object(Map::new()),
    };
    Ok((value, flattener.positions, flattener.problems))
}

/// A YAML node with its position.
#[derive(Clone)]
struct YamlNode {
    position: Position,
    content: YamlContent,
    /// Number of values, including itself.
    size: usize,
    depth: usize,
}

#[derive(Clone)]
enum YamlContent {
    Scalar { text: String, value: Value },
    Sequence(Vec<YamlNode>),
    Mapping(Vec<YamlEntry>),
}

#[derive(Clone)]
struct YamlEntry {
    key: String,
    position: Position,
    value: YamlNode,
}

impl YamlNode {
    fn new(position: Position, content: YamlContent) -> Result<Self, Problem> {
        let children: Vec<&YamlNode> = match &content {
            YamlContent::Scalar { .. } => vec![],
            YamlContent::Sequence(items) => items.iter().collect(),
            YamlContent::Mapping(entries) => entries.iter().map(|entry| &entry.value).collect(),
        };
        let size = children
            .iter()
            .fold(1, |size: usize, child| size.saturating_add(child.size));
        let depth = 1 + children.iter().map(|child| child.depth).max().unwrap_or(0);
        if size > MOST_NODES || depth > DEEPEST {
            return Err(too_large(position));
        }
        Ok(Self {
            position,
            content,
            size,
            depth,
        })
    }

    fn is_null(&self) -> bool {
        matches!(&self.content, YamlContent::Scalar { value: Value::Null, .. })
    }
}

struct YamlReader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, YamlNode>,
    depth: usize,
}

impl<'a> YamlReader<'a> {
    /// The next event that is not a comment.
    fn next(&mut self) -> Result<(Event<'a>, Position), Problem> {
        loop {
            match self.parser.next_event() {
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok((event, span))) => return Ok((event, position(&span))),
                Some(Err(error)) => return Err(syntax(&error)),
                None => return Ok((Event::StreamEnd, (1, 1))),
            }
        }
    }

    fn document(&mut self) -> Result<Option<YamlNode>, Problem> {
        let mut root = None;
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(root),
                (Event::DocumentStart(..), position) if root.is_some() => {
                    return Err(
                        problem(position, "a second document begins here").help("describe one cluster per file")
                    );
                }
                (Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd, _) => {}
                (event, position) => root = Some(self.node(event, position)?),
            }
        }
    }

    fn node(&mut self, event: Event<'a>, position: Position) -> Result<YamlNode, Problem> {
        check_tag(event.tag(), position)?;
        // Checked before the recursion, which could overflow the stack.
        if self.depth >= DEEPEST {
            return Err(too_large(position));
        }
        self.depth += 1;
        let (anchor, content) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = style != ScalarStyle::Plain || tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
                let text = text.into_owned();
                let value = if is_text {
                    text.clone().into()
                } else {
                    core_schema(&text)
                };
                (anchor, YamlContent::Scalar { text, value })
            }
            Event::SequenceStart(_, anchor, _) => (anchor, self.sequence()?),
            Event::MappingStart(_, anchor, _) => (anchor, self.mapping()?),
            Event::Alias(anchor) => {
                self.depth -= 1;
                let target = self.anchors.get(&anchor).cloned();
                return target.ok_or_else(|| problem(position, "this alias refers to a value that contains it"));
            }
            _ => return Err(problem(position, "a value was expected here")),
        };
        self.depth -= 1;
        let node = YamlNode::new(position, content)?;
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn sequence(&mut self) -> Result<YamlContent, Problem> {
        let mut items = Vec::new();
        let mut size = 0_usize;
        loop {
            let (event, position) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(YamlContent::Sequence(items));
            }
            let item = self.node(event, position)?;
            size = checked_size(size, &item, position)?;
            items.push(item);
        }
    }

    fn mapping(&mut self) -> Result<YamlContent, Problem> {
        let (mut entries, mut merged) = (Vec::new(), Vec::new());
        let mut size = 0_usize;
        loop {
            let (event, position) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let key = match self.node(event, position)?.content {
                YamlContent::Scalar { text, .. } => text,
                _ => {
                    let remedy = "put braces in quotes: \"{{ name }}\"";
                    return Err(problem(position, "a key must be a plain scalar").help(remedy));
                }
            };
            let (event, value_mark) = self.next()?;
            let value = self.node(event, value_mark)?;
            size = checked_size(size, &value, position)?;
            if key == "<<" {
                merged.push(value);
            } else {
                entries.push(YamlEntry { key, position, value });
            }
        }
        for source in merged {
            merge(&mut entries, source)?;
        }
        Ok(YamlContent::Mapping(entries))
    }
}

/// Checks the size before a child is stored, so that aliases cannot fill the memory.
fn checked_size(size: usize, child: &YamlNode, position: Position) -> Result<usize, Problem> {
    let size = size + child.size;
    if size > MOST_NODES {
        Err(too_large(position))
    } else {
        Ok(size)
    }
}

/// Adds the entries of a merge key that do not exist yet.
fn merge(entries: &mut Vec<YamlEntry>, source: YamlNode) -> Result<(), Problem> {
    match source.content {
        YamlContent::Mapping(more) => {
            for entry in more {
                if !entries.iter().any(|known| known.key == entry.key) {
                    entries.push(entry);
                }
            }
            Ok(())
        }
        YamlContent::Sequence(sources) => sources.into_iter().try_for_each(|source| merge(entries, source)),
        YamlContent::Scalar { .. } => {
            Err(problem(source.position, "`<<` can only merge mappings").help("refer to one: `<<: *name`"))
        }
    }
}

/// Converts nodes to plain values, and records positions by path.
#[derive(Default)]
struct Flattener {
    positions: Positions,
    problems: Vec<Problem>,
}

impl Flattener {
    fn value(&mut self, node: &YamlNode, path: String) -> Value {
        self.positions.values.entry(path.clone()).or_insert(node.position);
        match &node.content {
            YamlContent::Scalar { text, value } => {
                if matches!(value, Value::Number(_) | Value::Bool(_)) {
                    self.positions.texts.insert(path, text.clone());
                }
                value.clone()
            }
            YamlContent::Sequence(items) => {
                let item = |(at, item)| self.value(item, format!("{path}[{at}]"));
                items.iter().enumerate().map(item).collect()
            }
            YamlContent::Mapping(entries) => self.mapping(entries, &path),
        }
    }

    fn mapping(&mut self, entries: &[YamlEntry], path: &str) -> Value {
        let mut map = Map::new();
        for YamlEntry { key, position, value } in entries {
            let path = join(path, key);
            if self.positions.keys.contains_key(&path) {
                let twice = Problem::at(*position, &path, "duplicate key");
                self.problems.push(twice.help("keep one of them"));
                continue;
            }
            self.positions.keys.insert(path.clone(), *position);
            if !matches!(value.content, YamlContent::Scalar { .. }) || value.is_null() {
                // Readers look for a mapping at its key.
                self.positions.values.insert(path.clone(), *position);
            }
            map.insert(key.clone(), self.value(value, path));
        }
        Value::Object(map)
    }
}

/// YAML 1.2's core schema: unlike in 1.1, `yes` and `on` are strings and `0777` is decimal.
pub(super) fn core_schema(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => true.into(),
        "false" | "False" | "FALSE" => false.into(),
        _ => number(text).unwrap_or_else(|| text.into()),
    }
}

fn number(text: &str) -> Option<Value> {
    let based = |digits: &str, base| {
        // Rust would also parse a sign here.
        let plain = digits.bytes().all(|digit| digit.is_ascii_alphanumeric());
        plain
            .then(|| i64::from_str_radix(digits, base).ok())
            .flatten()
            .map(Value::from)
    };
    if let Some(digits) = text.strip_prefix("0x") {
        return based(digits, 16);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return based(digits, 8);
    }
    if let Ok(integer) = text.parse::<i64>() {
        return Some(integer.into());
    }
    // Rust also parses words such as `inf`.
    let numeric = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    let number = text.parse().ok().filter(|number: &f64| numeric && number.is_finite());
    number.map(Value::from)
}

fn check_tag(tag: Option<&Tag>, position: Position) -> Result<(), Problem> {
    match tag {
        Some(tag) if tag.is_custom() => {
            Err(problem(position, "YAML tags (`!name`) are not supported").help("remove the tag"))
        }
        _ => Ok(()),
    }
}

fn position(span: &Span) -> Position {
    (span.start.line() as u64, span.start.col() as u64 + 1)
}

fn syntax(error: &ScanError) -> Problem {
    let at = error.marker();
    problem(
        (at.line() as u64, at.col() as u64 + 1),
        &format!("this is not YAML: {}", error.info()),
    )
}

fn too_large(position: Position) -> Problem {
    problem(
        position,
        "this value is, with aliases expanded, nested too deeply or too large",
    )
}

fn problem(position: Position, message: &str) -> Problem {
    Problem::at(position, "", message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::spec::problem::Location;

    fn value(text: &str) -> Value {
        read(text).unwrap().0
    }

    fn fails(text: &str) -> (Position, String) {
        match read(text).unwrap_err() {
            Problem {
                location: Location::File { line, column, .. },
                message,
                ..
            } => ((line, column), message),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn keys_and_values_have_positions() {
        let (_, positions, _) =
            read("# comment\nworkers:\n  count: 2 # two\n  list:\n    - a\n    - b: \"x\"\n").unwrap();
        assert_eq!(positions.nearest("workers"), (2, 1));
        assert_eq!(positions.nearest("workers.count"), (3, 10));
        assert_eq!(positions.nearest("workers.list"), (4, 3));
        assert_eq!(positions.nearest("workers.list[0]"), (5, 7));
        assert_eq!(positions.nearest("workers.list[1].b"), (6, 10));
        assert_eq!(positions.key("workers.list[1].b"), (6, 7));
        assert_eq!(positions.nearest("workers.cores"), (2, 1));
    }

    #[test]
    fn scalars_follow_yaml_1_2() {
        let text = "[~, yes, True, 007, 0o17, 0x1f, 0x-1, -1.5e3, inf, 1:30, 2g, '1', !!str 1]";
        let expected = json!([
            null, "yes", true, 7, 15, 31, "0x-1", -1500.0, "inf", "1:30", "2g", "1", "1"
        ]);
        assert_eq!(value(text), expected);
        let (_, positions, _) = read("version: 1.10\n").unwrap();
        assert_eq!(positions.text("version"), Some("1.10"));
    }

    #[test]
    fn anchors_and_merge_keys_are_expanded() {
        let text = "a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\nc: *a\n";
        assert_eq!(
            value(text),
            json!({"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": {"x": 1, "y": 2}})
        );
    }

    #[test]
    fn the_first_of_duplicate_keys_is_kept() {
        let (value, _, problems) = read("a: 1\nb:\n  c: 1\n  c: 2\na: 3\n1: x\n1: y\n").unwrap();
        assert_eq!(value, json!({"a": 1, "b": {"c": 1}, "1": "x"}));
        let positions: Vec<_> = problems.into_iter().map(|problem| problem.location).collect();
        let expected = [((4, 3), "b.c"), ((5, 1), "a"), ((7, 1), "1")];
        assert_eq!(
            positions,
            expected.map(|(position, path)| Problem::at(position, path, "").location)
        );
    }

    #[test]
    fn invalid_yaml_is_refused_with_its_position() {
        assert_eq!(
            fails("a: 1\n---\nb: 2\n"),
            ((2, 1), "a second document begins here".into())
        );
        assert_eq!(fails("a: !include b\n").1, "YAML tags (`!name`) are not supported");
        assert_eq!(
            fails("a: &a\n  b: *a\n"),
            ((2, 6), "this alias refers to a value that contains it".into())
        );
        assert_eq!(fails("a: {{ b }}\n"), ((1, 5), "a key must be a plain scalar".into()));
        assert_eq!(fails("a: 1\n  b: 2\n").0.0, 2);
        assert_eq!(fails("a: *unknown\n").0.0, 1);
    }

    #[test]
    fn empty_files_are_empty_mappings() {
        for text in [
            "",
            "\n",
            "# nothing\n",
            "---\n",
            "--- # c\n",
            "---\n...\n",
            "{}",
            "null",
            "\u{feff}",
        ] {
            assert_eq!(value(text), json!({}), "{text:?}");
        }
    }

    #[test]
    fn exponentially_expanding_aliases_are_refused() {
        let mut wide = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        let mut deep = String::from("a0: &a0 [x]\n");
        for level in 1..1000 {
            let below = level - 1;
            let many = vec![format!("*a{below}"); 10].join(", ");
            wide += &format!("a{level}: &a{level} [{many}]\n");
            deep += &format!("a{level}: &a{level} [*a{below}]\n");
        }
        assert!(fails(&wide).1.contains("too large"));
        assert!(fails(&deep).1.contains("too large"));
        assert!(read(&"[".repeat(5000)).is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[ -~\\n]{0,200}", yaml in "([a-c&*!<:\\[\\]{}, \\n\"'#-]|: |- |\\n  ){0,60}") {
            let _ = (read(&text), read(&yaml));
        }
    }
}
