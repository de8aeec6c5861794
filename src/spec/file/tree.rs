//! YAML 1.2 as plain values, with the place of every one of them. Aliases and merge keys (`<<`) are expanded, within
//! limits, so that a small file cannot grow into a large one.

use std::collections::HashMap;

use serde_json::{Map, Value};
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use crate::spec::problem::{Place, Problem};

/// Most values of a file with all aliases expanded; a cluster file has some hundred.
const MOST_NODES: usize = 20_000;
/// Deepest nesting with all aliases expanded; Kubernetes' deepest type in the file needs about 12.
const DEEPEST: usize = 40;

/// Line and column, from 1.
type Mark = (u64, u64);

/// Where each path of a document is, e.g. `workers.volumes[0].name`.
#[derive(Clone, Debug, Default)]
pub struct Places {
    values: HashMap<String, Mark>,
    keys: HashMap<String, Mark>,
    texts: HashMap<String, String>,
}

impl Places {
    /// Line and column of a path, or of the nearest part of it that the document has.
    pub fn nearest(&self, path: &str) -> Mark {
        let mut path = path;
        loop {
            if let Some(&place) = self.values.get(path) {
                return place;
            }
            match path.rfind(['.', '[']) {
                Some(at) => path = &path[..at],
                None => return self.values.get("").copied().unwrap_or((1, 1)),
            }
        }
    }

    /// Line and column of the key at the end of a path.
    pub fn key(&self, path: &str) -> Mark {
        self.keys.get(path).copied().unwrap_or_else(|| self.nearest(path))
    }

    /// A number or truth value as it was written: `1.10`, not `1.1`.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.texts.get(path).map(String::as_str)
    }
}

/// Joins a path and a key of it.
pub fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// Reads a document. Keys that stand twice are problems; a text that is no YAML is the error.
pub fn read(text: &str) -> Result<(Value, Places, Vec<Problem>), Problem> {
    let mut reader = Reader {
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        depth: 0,
    };
    let mut flattener = Flattener::default();
    let value = match reader.document()? {
        Some(root) if !root.is_null() => flattener.value(&root, String::new()),
        // Nothing but comments.
        _ => Value::Object(Map::new()),
    };
    Ok((value, flattener.places, flattener.problems))
}

/// A YAML node whose children know their places.
#[derive(Clone)]
struct Node {
    mark: Mark,
    content: Content,
    /// Values in it and itself.
    size: usize,
    depth: usize,
}

#[derive(Clone)]
enum Content {
    Scalar { text: String, value: Value },
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
}

#[derive(Clone)]
struct Entry {
    key: String,
    mark: Mark,
    value: Node,
}

impl Node {
    fn new(mark: Mark, content: Content) -> Result<Self, Problem> {
        let children: Vec<&Node> = match &content {
            Content::Scalar { .. } => vec![],
            Content::Sequence(items) => items.iter().collect(),
            Content::Mapping(entries) => entries.iter().map(|entry| &entry.value).collect(),
        };
        let size = children
            .iter()
            .fold(1, |size: usize, child| size.saturating_add(child.size));
        let depth = 1 + children.iter().map(|child| child.depth).max().unwrap_or(0);
        if size > MOST_NODES || depth > DEEPEST {
            return Err(too_large(mark));
        }
        Ok(Self {
            mark,
            content,
            size,
            depth,
        })
    }

    fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar { value: Value::Null, .. })
    }
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    depth: usize,
}

impl<'a> Reader<'a> {
    /// The next event that is no comment.
    fn next(&mut self) -> Result<(Event<'a>, Mark), Problem> {
        loop {
            match self.parser.next_event() {
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok((event, span))) => return Ok((event, mark(&span))),
                Some(Err(error)) => return Err(syntax(&error)),
                None => return Ok((Event::StreamEnd, (1, 1))),
            }
        }
    }

    fn document(&mut self) -> Result<Option<Node>, Problem> {
        let mut root = None;
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(root),
                (Event::DocumentStart(..), mark) if root.is_some() => {
                    return Err(
                        problem(mark, "a second document begins here").help("describe one cluster in each file")
                    );
                }
                (Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd, _) => {}
                (event, mark) => root = Some(self.node(event, mark)?),
            }
        }
    }

    fn node(&mut self, event: Event<'a>, mark: Mark) -> Result<Node, Problem> {
        check_tag(event.tag(), mark)?;
        // Before anything recurses: the reader's own stack is at stake.
        if self.depth >= DEEPEST {
            return Err(too_large(mark));
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
                (anchor, Content::Scalar { text, value })
            }
            Event::SequenceStart(_, anchor, _) => (anchor, self.sequence()?),
            Event::MappingStart(_, anchor, _) => (anchor, self.mapping()?),
            Event::Alias(anchor) => {
                self.depth -= 1;
                let target = self.anchors.get(&anchor).cloned();
                return target.ok_or_else(|| problem(mark, "this alias refers to what contains it"));
            }
            _ => return Err(problem(mark, "a value was expected here")),
        };
        self.depth -= 1;
        let node = Node::new(mark, content)?;
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn sequence(&mut self) -> Result<Content, Problem> {
        let mut items = Vec::new();
        let mut size = 0_usize;
        loop {
            let (event, mark) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(Content::Sequence(items));
            }
            let item = self.node(event, mark)?;
            size = room(size, &item, mark)?;
            items.push(item);
        }
    }

    fn mapping(&mut self) -> Result<Content, Problem> {
        let (mut entries, mut merged) = (Vec::new(), Vec::new());
        let mut size = 0_usize;
        loop {
            let (event, mark) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let key = match self.node(event, mark)?.content {
                Content::Scalar { text, .. } => text,
                _ => {
                    let remedy = "put braces in quotes: \"{{ name }}\"";
                    return Err(problem(mark, "a key must be a plain word").help(remedy));
                }
            };
            let (event, value_mark) = self.next()?;
            let value = self.node(event, value_mark)?;
            size = room(size, &value, mark)?;
            if key == "<<" {
                merged.push(value);
            } else {
                entries.push(Entry { key, mark, value });
            }
        }
        for source in merged {
            merge(&mut entries, source)?;
        }
        Ok(Content::Mapping(entries))
    }
}

/// Counts a child before it is kept, so that aliases cannot fill the memory.
fn room(size: usize, child: &Node, mark: Mark) -> Result<usize, Problem> {
    let size = size + child.size;
    if size > MOST_NODES {
        Err(too_large(mark))
    } else {
        Ok(size)
    }
}

/// Adds the entries of a merge key that are not there yet.
fn merge(entries: &mut Vec<Entry>, source: Node) -> Result<(), Problem> {
    match source.content {
        Content::Mapping(more) => {
            for entry in more {
                if !entries.iter().any(|known| known.key == entry.key) {
                    entries.push(entry);
                }
            }
            Ok(())
        }
        Content::Sequence(sources) => sources.into_iter().try_for_each(|source| merge(entries, source)),
        Content::Scalar { .. } => {
            Err(problem(source.mark, "`<<` can merge mappings only").help("refer to one: `<<: *name`"))
        }
    }
}

/// From nodes to plain values, noting the places by path.
#[derive(Default)]
struct Flattener {
    places: Places,
    problems: Vec<Problem>,
}

impl Flattener {
    fn value(&mut self, node: &Node, path: String) -> Value {
        self.places.values.entry(path.clone()).or_insert(node.mark);
        match &node.content {
            Content::Scalar { text, value } => {
                if matches!(value, Value::Number(_) | Value::Bool(_)) {
                    self.places.texts.insert(path, text.clone());
                }
                value.clone()
            }
            Content::Sequence(items) => {
                let item = |(at, item)| self.value(item, format!("{path}[{at}]"));
                items.iter().enumerate().map(item).collect()
            }
            Content::Mapping(entries) => self.mapping(entries, &path),
        }
    }

    fn mapping(&mut self, entries: &[Entry], path: &str) -> Value {
        let mut map = Map::new();
        for Entry { key, mark, value } in entries {
            let path = join(path, key);
            if self.places.keys.contains_key(&path) {
                let twice = Problem {
                    place: place(*mark, path),
                    message: "this key stands here a second time".into(),
                    help: Some("keep one of them".into()),
                };
                self.problems.push(twice);
                continue;
            }
            self.places.keys.insert(path.clone(), *mark);
            if !matches!(value.content, Content::Scalar { .. }) || value.is_null() {
                // A reader looks for a mapping where its key is.
                self.places.values.insert(path.clone(), *mark);
            }
            let value = self.value(value, path);
            // A key without a value is a key that was left out.
            if !value.is_null() {
                map.insert(key.clone(), value);
            }
        }
        Value::Object(map)
    }
}

/// YAML 1.2's core schema: `yes`, `on` and `0777` are not what they were in 1.1.
fn core_schema(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => true.into(),
        "false" | "False" | "FALSE" => false.into(),
        _ => number(text).unwrap_or_else(|| text.into()),
    }
}

fn number(text: &str) -> Option<Value> {
    let based = |digits: &str, base| {
        // Rust would read a sign here too.
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
    // Rust also reads words such as `inf`.
    let numeric = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    let number = text.parse().ok().filter(|number: &f64| numeric && number.is_finite());
    number.map(Value::from)
}

fn check_tag(tag: Option<&Tag>, mark: Mark) -> Result<(), Problem> {
    match tag {
        Some(tag) if tag.is_custom() => {
            Err(problem(mark, "YAML tags (`!name`) mean nothing here").help("remove the tag"))
        }
        _ => Ok(()),
    }
}

fn mark(span: &Span) -> Mark {
    (span.start.line() as u64, span.start.col() as u64 + 1)
}

fn syntax(error: &ScanError) -> Problem {
    let at = error.marker();
    problem(
        (at.line() as u64, at.col() as u64 + 1),
        &format!("this is not YAML: {}", error.info()),
    )
}

fn too_large(mark: Mark) -> Problem {
    problem(
        mark,
        "what is here is, with its aliases, nested too deeply or too large for a cluster",
    )
}

fn problem(mark: Mark, message: &str) -> Problem {
    Problem {
        place: place(mark, String::new()),
        message: message.to_owned(),
        help: None,
    }
}

fn place((line, column): Mark, path: String) -> Place {
    Place::File { line, column, path }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn value(text: &str) -> Value {
        read(text).unwrap().0
    }

    fn fails(text: &str) -> (Mark, String) {
        match read(text).unwrap_err() {
            Problem {
                place: Place::File { line, column, .. },
                message,
                ..
            } => ((line, column), message),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn places_of_keys_and_values() {
        let (_, places, _) = read("# comment\nworkers:\n  count: 2 # two\n  list:\n    - a\n    - b: \"x\"\n").unwrap();
        assert_eq!(places.nearest("workers"), (2, 1));
        assert_eq!(places.nearest("workers.count"), (3, 10));
        assert_eq!(places.nearest("workers.list"), (4, 3));
        assert_eq!(places.nearest("workers.list[0]"), (5, 7));
        assert_eq!(places.nearest("workers.list[1].b"), (6, 10));
        assert_eq!(places.key("workers.list[1].b"), (6, 7));
        assert_eq!(places.nearest("workers.cores"), (2, 1));
    }

    #[test]
    fn scalars_of_yaml_1_2() {
        let text = "[~, yes, True, 007, 0o17, 0x1f, 0x-1, -1.5e3, inf, 1:30, 2g, '1', !!str 1]";
        let expected = json!([
            null, "yes", true, 7, 15, 31, "0x-1", -1500.0, "inf", "1:30", "2g", "1", "1"
        ]);
        assert_eq!(value(text), expected);
        let (_, places, _) = read("version: 1.10\n").unwrap();
        assert_eq!(places.text("version"), Some("1.10"));
    }

    #[test]
    fn anchors_and_merges() {
        let text = "a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\nc: *a\n";
        assert_eq!(
            value(text),
            json!({"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": {"x": 1, "y": 2}})
        );
    }

    #[test]
    fn duplicate_keys_keep_the_first() {
        let (value, _, problems) = read("a: 1\nb:\n  c: 1\n  c: 2\na: 3\n1: x\n1: y\n").unwrap();
        assert_eq!(value, json!({"a": 1, "b": {"c": 1}, "1": "x"}));
        let places: Vec<_> = problems.into_iter().map(|problem| problem.place).collect();
        let expected = [((4, 3), "b.c"), ((5, 1), "a"), ((7, 1), "1")];
        assert_eq!(places, expected.map(|(mark, path)| place(mark, path.into())));
    }

    #[test]
    fn what_makes_a_file_unreadable() {
        assert_eq!(
            fails("a: 1\n---\nb: 2\n"),
            ((2, 1), "a second document begins here".into())
        );
        assert_eq!(fails("a: !include b\n").1, "YAML tags (`!name`) mean nothing here");
        assert_eq!(
            fails("a: &a\n  b: *a\n"),
            ((2, 6), "this alias refers to what contains it".into())
        );
        assert_eq!(fails("a: {{ b }}\n"), ((1, 5), "a key must be a plain word".into()));
        assert_eq!(fails("a: 1\n  b: 2\n").0.0, 2);
        assert_eq!(fails("a: *unknown\n").0.0, 1);
    }

    #[test]
    fn empty_files() {
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
    fn no_billion_laughs() {
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
