//! Validates a file's values against the JSON Schema of its types. Reports all mistakes, each with its position, and returns the valid
//! values, ready to be deserialised. Supports the few keywords of JSON Schema that the types produce.

use serde_json::{Map, Value};

use super::tree::{Positions, core_schema, join};
use crate::spec::problem::Problem;

/// Returns the valid values of a document. A value with a mistake is omitted, and so is a mapping that requires it.
pub fn check(value: &Value, schema: &Value, positions: &Positions, problems: &mut Vec<Problem>) -> Value {
    let mut checker = Checker {
        definitions: &schema["$defs"],
        positions,
        problems,
    };
    // An empty document describes the default cluster.
    let sound = if value.is_null() {
        None
    } else {
        checker.value(value, schema, "")
    };
    sound.unwrap_or_else(|| Value::Object(Map::new()))
}

const NO_VALUE: &str = "this key has no value";

struct Checker<'a> {
    definitions: &'a Value,
    positions: &'a Positions,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Checker<'a> {
    /// `None` if the value is invalid; the problem has then been reported.
    fn value(&mut self, value: &Value, schema: &'a Value, path: &str) -> Option<Value> {
        let branches = self.branches(schema);
        if branches
            .iter()
            .any(|branch| branch.get("type").is_none() && branch.get("enum").is_none())
        {
            // Kubernetes' own types, validated elsewhere.
            return Some(without_nulls(value));
        }
        let Some(branch) = branches.iter().copied().find(|branch| accepts(branch, value)) else {
            self.wrong_type(value, &branches, path);
            return None;
        };
        match value {
            Value::Object(map) => self.map(map, branch, path),
            Value::Array(items) => self.list(items, &branch["items"], path),
            _ => self.scalar(value, branch, path),
        }
    }

    /// Whether a schema takes `true`, or a mapping with settings.
    fn is_switch(&self, schema: &'a Value) -> bool {
        let branches = self.branches(schema);
        let takes = |name| branches.iter().any(|branch| has_type(branch, name));
        takes("boolean") && takes("object") && !takes("string")
    }

    /// The alternatives of a schema, with references resolved.
    fn branches(&self, schema: &'a Value) -> Vec<&'a Value> {
        let reference = schema["$ref"].as_str().and_then(|name| name.strip_prefix("#/$defs/"));
        match (reference, schema["anyOf"].as_array()) {
            (Some(name), _) => self.branches(&self.definitions[name]),
            (None, Some(schemas)) => schemas.iter().flat_map(|schema| self.branches(schema)).collect(),
            (None, None) => vec![schema],
        }
    }

    fn map(&mut self, map: &Map<String, Value>, schema: &'a Value, path: &str) -> Option<Value> {
        let mut sound = Map::new();
        for (key, value) in map {
            let below = join(path, key);
            let properties = &schema["properties"];
            match properties
                .get(key)
                .or_else(|| Some(&schema["additionalProperties"]).filter(|other| other.is_object()))
            {
                // Flow mappings take `count 3` and `count:3` for keys.
                _ if value.is_null() && key.contains([' ', ':']) => {
                    let help = "is `:` or a space missing? write it like `key: value`";
                    self.report(self.positions.key(&below), &below, NO_VALUE, help.into());
                }
                Some(schema) if value.is_null() && self.is_switch(schema) => {
                    let help = format!("write `{key}: true` or `{key}: false`");
                    self.report(self.positions.key(&below), &below, NO_VALUE, help);
                }
                // As if the key were missing.
                Some(_) if value.is_null() => {}
                Some(schema) => {
                    if let Some(value) = self.value(value, schema, &below) {
                        sound.insert(key.clone(), value);
                    }
                }
                None => {
                    let known = properties.as_object().into_iter().flat_map(Map::keys);
                    let help = suggest(key, known.map(String::as_str));
                    self.report(self.positions.key(&below), &below, "unknown key", help);
                }
            }
        }
        let required = schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str);
        let mut complete = true;
        for key in required {
            if map.get(key).is_none_or(Value::is_null) {
                self.report(
                    self.positions.nearest(path),
                    path,
                    format!("`{key}` is missing"),
                    format!("add `{key}: …` to it"),
                );
            }
            complete &= sound.contains_key(key);
        }
        complete.then_some(Value::Object(sound))
    }

    /// A list with an invalid item is omitted: without it, the other items would have other indexes, and so other positions.
    fn list(&mut self, items: &[Value], schema: &'a Value, path: &str) -> Option<Value> {
        let item = |(at, item)| self.value(item, schema, &format!("{path}[{at}]"));
        let items: Vec<_> = items.iter().enumerate().map(item).collect();
        items.into_iter().collect::<Option<Vec<_>>>().map(Value::Array)
    }

    fn scalar(&mut self, value: &Value, schema: &Value, path: &str) -> Option<Value> {
        let location = self.positions.nearest(path);
        if let Some(allowed) = schema["enum"].as_array()
            && !allowed.contains(value)
        {
            let words: Vec<_> = allowed.iter().filter(|word| !word.is_null()).map(plain).collect();
            let message = format!("`{}` is not an allowed value", plain(value));
            self.report(
                location,
                path,
                message,
                suggest(&plain(value), words.iter().map(String::as_str)),
            );
            return None;
        }
        let (least, most) = limits(schema);
        let outside = |number: f64| least.is_some_and(|least| number < least) || most.is_some_and(|most| number > most);
        if value.as_f64().is_some_and(outside) {
            let help = match (least, schema["maximum"].as_f64()) {
                (Some(least), Some(most)) => format!("choose a number from {least} to {most}"),
                (None, Some(most)) => format!("choose a number of at most {most}"),
                (Some(least), None) if value.as_f64() < Some(least) => format!("choose a number of at least {least}"),
                _ => "choose a smaller number".into(),
            };
            self.report(location, path, format!("{value} is out of range"), help);
            return None;
        }
        // If a string is also allowed, a number keeps its notation.
        let written = self.positions.text(path).filter(|_| has_type(schema, "string"));
        Some(written.map_or_else(|| value.clone(), Value::from))
    }

    fn wrong_type(&mut self, value: &Value, branches: &[&'a Value], path: &str) {
        let mut expected: Vec<_> = branches.iter().flat_map(|branch| expectations(branch)).collect();
        expected.dedup();
        let expected = expected.join(" or ");
        let help = match value {
            Value::Number(_) | Value::Bool(_) if expected == "text" => "put it in quotes".to_owned(),
            Value::String(text) if is_quoted(text, branches) => "remove the quotes".to_owned(),
            Value::Array(_) if branches.iter().any(|branch| branch["additionalProperties"].is_object()) => {
                "write each as `NAME: value`".to_owned()
            }
            _ => match self.main_key(value, branches) {
                Some(main) => {
                    let key = path.rsplit('.').next().unwrap_or(path);
                    format!("write `{key}: {{{main}: {}}}`", plain(value))
                }
                None => format!("write {expected}"),
            },
        };
        let message = format!("must be {expected}, not {}", shown(value));
        self.report(self.positions.nearest(path), path, message, help);
    }

    /// The key of a mapping that a value was meant for: the only required one, or whether it is enabled.
    fn main_key(&self, value: &Value, branches: &[&'a Value]) -> Option<&'a str> {
        branches.iter().find_map(|branch| {
            let key = match branch["required"].as_array().map(Vec::as_slice) {
                Some([key]) => key.as_str()?,
                _ => "enabled",
            };
            let schema = branch["properties"].get(key)?;
            let is_meant = self.branches(schema).iter().any(|branch| accepts(branch, value));
            is_meant.then_some(key)
        })
    }

    fn report(&mut self, position: (u64, u64), path: &str, message: impl Into<String>, help: String) {
        self.problems.push(Problem::at(position, path, message).help(help));
    }
}

/// A value without keys that have no value.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(key, value)| (key.clone(), without_nulls(value))).collect())
        }
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

/// The limits of a number; schemars omits the upper limit of `u32`.
fn limits(schema: &Value) -> (Option<f64>, Option<f64>) {
    let natural = (schema["format"] == "uint32").then_some(f64::from(u32::MAX));
    (schema["minimum"].as_f64(), schema["maximum"].as_f64().or(natural))
}

fn accepts(schema: &Value, value: &Value) -> bool {
    match value {
        Value::Null => has_type(schema, "null"),
        Value::Bool(_) => has_type(schema, "boolean"),
        Value::Number(number) => {
            has_type(schema, "number") || (has_type(schema, "integer") && (number.is_i64() || number.is_u64()))
        }
        Value::String(_) => has_type(schema, "string"),
        Value::Array(_) => has_type(schema, "array"),
        Value::Object(_) => has_type(schema, "object"),
    }
}

/// Whether a text would be accepted without its quotes.
fn is_quoted(text: &str, branches: &[&Value]) -> bool {
    let plain = core_schema(text);
    !plain.is_null() && branches.iter().any(|branch| accepts(branch, &plain))
}

fn has_type(schema: &Value, name: &str) -> bool {
    match &schema["type"] {
        Value::Array(types) => types.iter().any(|one| one == name),
        one => one == name,
    }
}

/// The names of a schema's types in messages.
fn expectations(schema: &Value) -> Vec<&'static str> {
    let names = [
        ("string", "text"),
        ("integer", "a whole number"),
        ("number", "a number"),
        ("boolean", "`true` or `false`"),
        ("array", "a list"),
        ("object", "a mapping"),
    ];
    let expected = names.into_iter().filter(|(name, _)| has_type(schema, name));
    expected.map(|(_, words)| words).collect()
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "nothing".into(),
        Value::Bool(value) => format!("the boolean `{value}`"),
        Value::Number(value) => format!("the number `{value}`"),
        Value::String(value) => format!("the text `{}`", beginning(value)),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "a mapping".into(),
    }
}

/// The beginning of a text, which may be long.
fn beginning(text: &str) -> String {
    const SHOWN: usize = 40;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A JSON value without its quotes.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A remedy for an unknown word.
pub fn suggest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<_> = known.collect();
    let distance = |other: &str| strsim::damerau_levenshtein(&word.to_lowercase(), &other.to_lowercase());
    match known.iter().min_by_key(|other| distance(other)) {
        // A third of the letters may differ: enough for typos, too few for other words.
        Some(closest) if distance(closest) <= closest.len().div_ceil(3) => format!("did you mean `{closest}`?"),
        Some(_) => format!("choose one of {}", known.join(", ")),
        None => "remove it".into(),
    }
}
