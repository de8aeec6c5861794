//! Generates the pages of docs/reference/: commands from their arguments, and the cluster file's keys from its
//! schema. `make manifests` writes them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use clap::{Arg, Command, CommandFactory};
use serde_json::{Map, Value};

use super::Cli;

const GENERATED: &str = "<!-- Written by `make manifests`. -->\n";

#[test]
fn commands_are_documented_as_they_are() {
    is_current("commands.md", &commands());
}

#[test]
fn keys_of_the_cluster_file_are_documented_as_they_are() {
    is_current("cluster-file.md", &cluster_file(&crate::spec::file::schema()));
}

/// Compares a page with its file, or writes it if SPARKHA_WRITE_REFERENCE is set.
#[track_caller]
fn is_current(name: &str, page: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference").join(name);
    if std::env::var_os("SPARKHA_WRITE_REFERENCE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, page).unwrap();
    }
    let file = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        file == page,
        "docs/reference/{name} is not current: run `make manifests`"
    );
}

/// Escapes text as Markdown; text between backticks stays code.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for (at, part) in text.split('`').enumerate() {
        let is_code = at % 2 == 1;
        if at > 0 {
            escaped.push('`');
        }
        for character in part.chars() {
            // A bar ends a table's cell even inside of code.
            if character == '|' || (!is_code && character == '<') {
                escaped.push('\\');
            }
            escaped.push(if character == '\n' { ' ' } else { character });
        }
    }
    escaped
}

fn code(text: &str) -> String {
    format!("`{}`", text.replace('|', "\\|"))
}

fn commands() -> String {
    let mut root = Cli::command();
    root.build();
    let mut page = format!(
        "# Commands\n\n{GENERATED}\nThis page lists every command with its options, as `--help` of this version shows them. The options of \
         [every command](#options-of-every-command) are listed once.\n"
    );
    subcommands(&mut page, &root);
    page += "\n## Options of every command\n";
    arguments(&mut page, &root, &|argument| argument.is_global_set());
    page += "\n`-h` prints a short help and `--help` a long one; `-V` and `--version` print the version.\n";
    after_help(&mut page, &root);
    for command in visible(&root) {
        write_command(&mut page, command);
    }
    page
}

fn visible(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|command| !command.is_hide_set())
}

fn write_command(page: &mut String, command: &Command) {
    let name = command.get_bin_name().unwrap_or_default();
    let about = command.get_long_about().or(command.get_about());
    let usage = command.clone().render_usage().to_string();
    let usage = usage
        .trim_start_matches("Usage: ")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    let _ = write!(
        page,
        "\n## {name}\n\n{}.\n\n",
        escaped(&about.map(ToString::to_string).unwrap_or_default())
    );
    let _ = writeln!(page, "Usage: {}", code(&usage));
    subcommands(page, command);
    arguments(page, command, &|argument| !argument.is_global_set());
    after_help(page, command);
    for command in visible(command) {
        write_command(page, command);
    }
}

fn subcommands(page: &mut String, command: &Command) {
    let mut commands = visible(command).peekable();
    if commands.peek().is_some() {
        *page += "\n| command | does |\n|---|---|\n";
    }
    for command in commands {
        let name = command.get_bin_name().unwrap_or_default();
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(
            page,
            "| [{}](#{}) | {} |",
            code(name),
            name.replace(' ', "-"),
            escaped(&about)
        );
    }
}

/// Tables of arguments, one per heading.
fn arguments(page: &mut String, command: &Command, is_listed: &dyn Fn(&Arg) -> bool) {
    let mut headings: Vec<(&str, Vec<&Arg>)> = Vec::new();
    for argument in command.get_arguments() {
        let is_own = !matches!(argument.get_id().as_str(), "help" | "version") && !argument.is_hide_set();
        if !is_own || !is_listed(argument) {
            continue;
        }
        let usual = if argument.is_positional() {
            "Arguments"
        } else {
            "Options"
        };
        let heading = argument.get_help_heading().unwrap_or(usual);
        match headings.iter_mut().find(|(known, _)| *known == heading) {
            Some((_, arguments)) => arguments.push(argument),
            None => headings.push((heading, vec![argument])),
        }
    }
    let is_plain = headings.len() == 1 && headings[0].0 == "Options";
    for (heading, arguments) in headings {
        if !is_plain {
            let _ = write!(page, "\n**{heading}**\n");
        }
        *page += "\n| | |\n|---|---|\n";
        for argument in arguments {
            let short = argument
                .get_short()
                .map(|short| format!("`-{short}`, "))
                .unwrap_or_default();
            let _ = writeln!(
                page,
                "| {short}{} | {} |",
                code(&argument.to_string()),
                meaning(argument)
            );
        }
    }
}

/// The meaning of an argument, its possible values, and its default.
fn meaning(argument: &Arg) -> String {
    let help = argument.get_long_help().or(argument.get_help());
    let mut meaning = escaped(&help.map(ToString::to_string).unwrap_or_default());
    // A default that is not a value of the argument is part of its text.
    if let Some((text, default)) = meaning
        .strip_suffix(']')
        .and_then(|text| text.rsplit_once(" [default: "))
    {
        meaning = format!("{text}; default: {default}");
    }
    if !argument.get_action().takes_values() {
        return meaning;
    }
    let values = argument.get_possible_values();
    let values = values.iter().filter(|value| !value.is_hide_set()).map(|value| {
        let help = value
            .get_help()
            .map(|help| format!(" ({})", escaped(&help.to_string())));
        code(value.get_name()) + &help.unwrap_or_default()
    });
    let values = values.collect::<Vec<_>>().join(", ");
    if !values.is_empty() {
        let _ = write!(meaning, "; one of {values}");
    }
    let defaults = argument
        .get_default_values()
        .iter()
        .map(|value| code(&value.to_string_lossy()));
    let defaults = defaults.collect::<Vec<_>>().join(", ");
    if !defaults.is_empty() && !argument.is_hide_default_value_set() {
        let _ = write!(meaning, "; default: {defaults}");
    }
    if let Some(variable) = argument.get_env() {
        let _ = write!(meaning, "; environment: {}", code(&variable.to_string_lossy()));
    }
    meaning
}

/// The text after the options: paragraphs, and two-column lists under a heading.
fn after_help(page: &mut String, command: &Command) {
    let texts = [command.get_after_help(), command.get_after_long_help()];
    for text in texts.into_iter().flatten().map(ToString::to_string) {
        let (mut is_table, mut is_paragraph) = (false, false);
        for line in text.lines() {
            let Some(row) = line.strip_prefix("  ") else {
                match line
                    .strip_suffix(':')
                    .filter(|heading| !heading.contains(' ') || *heading == "Exit codes")
                {
                    Some(heading) => {
                        let _ = write!(page, "\n**{heading}**\n\n| | |\n|---|---|\n");
                    }
                    None if line.is_empty() => {}
                    None => {
                        let start = if is_paragraph { "" } else { "\n" };
                        let _ = writeln!(page, "{start}{}", escaped(line));
                    }
                }
                (is_table, is_paragraph) = (line.ends_with(':'), !line.is_empty() && !line.ends_with(':'));
                continue;
            };
            let (example, does) = row.split_once("  ").unwrap_or((row, ""));
            if is_table {
                let _ = writeln!(page, "| {} | {} |", code(example), escaped(does.trim()));
            } else {
                let _ = writeln!(page, "{}", escaped(row));
            }
        }
    }
}

/// The keys of the cluster file that describe pods.
const PARTS: [&str; 5] = ["masters", "workers", "zookeeper", "history", "connect"];
const HEAD: &str = "| key | value | meaning |\n|---|---|---|\n";

fn cluster_file(schema: &Value) -> String {
    let mut keys = Keys::new(schema);
    let mut page = format!(
        "# Keys of the cluster file\n\n{GENERATED}\nThis page lists every key of the cluster file. `sparkha schema` prints the same as JSON Schema, \
         for editors. Every key is optional unless it is marked as \
         required. `[]` stands for each entry of a list, `NAME` for a name that you choose, and `PART` for one of {}.\n\n\
         ## The cluster\n\n{HEAD}",
        PARTS.map(code).join(", ")
    );
    let (objects, plain): (Vec<_>, Vec<_>) = properties(schema).partition(|(_, value)| keys.is_section(value));
    for (key, value) in plain {
        keys.rows(&mut page, key, value, false);
    }
    for (key, value) in objects {
        let _ = write!(page, "\n## {key}\n\n{}\n\n", escaped(&keys.description(value)));
        let is_part = PARTS.contains(&key.as_str());
        if is_part {
            page += "It also has the keys of [every part](#every-part).\n\n";
        }
        page += HEAD;
        let fields = keys.object(value).map(|object| keys.fields(object)).unwrap_or_default();
        for (field, value, is_required) in fields {
            if !is_part || !keys.common.contains_key(field) {
                keys.rows(&mut page, &format!("{key}.{field}"), value, is_required);
            }
        }
    }
    let _ = write!(page, "\n## Every part\n\n{HEAD}");
    for (field, value) in keys.common.clone() {
        keys.rows(&mut page, &format!("PART.{field}"), value, false);
    }
    let mut written = 0;
    // A section may be the first to name another.
    while let Some(&name) = keys.sections.get(written) {
        written += 1;
        let object = &keys.definitions[name];
        let _ = write!(
            page,
            "\n## {}\n\n{}\n\n{HEAD}",
            title(name),
            escaped(&keys.description(object))
        );
        for (field, value, is_required) in keys.fields(object) {
            keys.rows(&mut page, field, value, is_required);
        }
    }
    page
}

fn properties(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object["properties"].as_object().into_iter().flatten()
}

/// The heading of a definition's own section: `ExistingClaimFile` is `Existing claim`.
fn title(definition: &str) -> String {
    let mut title = String::new();
    for character in definition.trim_end_matches("File").chars() {
        if character.is_uppercase() && !title.is_empty() {
            title.push(' ');
            title.extend(character.to_lowercase());
        } else {
            title.push(character);
        }
    }
    title
}

/// `a, b or c`.
fn one_of(kinds: &[String]) -> String {
    match kinds {
        [before @ .., last] if !before.is_empty() => format!("{} or {last}", before.join(", ")),
        _ => kinds.concat(),
    }
}

/// A schema, and the definitions already shown.
struct Keys<'a> {
    definitions: &'a Map<String, Value>,
    /// Number of references to each definition.
    uses: BTreeMap<&'a str, usize>,
    /// Keys that most components share.
    common: BTreeMap<&'a str, &'a Value>,
    /// Definitions shown once, in their own section, in order of appearance.
    sections: Vec<&'a str>,
}

impl<'a> Keys<'a> {
    fn new(schema: &'a Value) -> Self {
        let mut keys = Self {
            definitions: schema["$defs"].as_object().unwrap(),
            uses: BTreeMap::new(),
            common: BTreeMap::new(),
            sections: Vec::new(),
        };
        count(schema, &mut keys.uses);
        let parts: Vec<_> = PARTS
            .iter()
            .filter_map(|part| keys.object(&schema["properties"][part]))
            .collect();
        for (key, value) in parts.iter().flat_map(|part| properties(part)) {
            let owners = parts.iter().filter(|part| part["properties"][key] == *value).count();
            if owners * 2 > parts.len() {
                keys.common.insert(key, value);
            }
        }
        keys
    }

    /// The possible types of a value, without null: an optional key may also be null.
    fn alternatives(&self, value: &'a Value) -> Vec<&'a Value> {
        match value["anyOf"].as_array() {
            Some(all) => all.iter().flat_map(|one| self.alternatives(one)).collect(),
            None if value["type"] == "null" => Vec::new(),
            None => vec![value],
        }
    }

    /// The definition that a value refers to, if any.
    fn named(&self, value: &'a Value) -> Option<(&'a str, &'a Value)> {
        let name = value["$ref"].as_str()?.strip_prefix("#/$defs/")?;
        Some((name, &self.definitions[name]))
    }

    /// The object type of a value, if any.
    fn object(&self, value: &'a Value) -> Option<&'a Value> {
        let alternatives = self.alternatives(value).into_iter();
        let mut resolved = alternatives.map(|one| self.named(one).map_or(one, |(_, definition)| definition));
        resolved.find(|one| one["properties"].is_object())
    }

    /// Whether a key of the cluster has a section.
    fn is_section(&self, value: &'a Value) -> bool {
        self.object(value).is_some()
    }

    /// An object's keys, and whether each is required.
    fn fields(&self, object: &'a Value) -> Vec<(&'a str, &'a Value, bool)> {
        let required: Vec<_> = object["required"].as_array().into_iter().flatten().collect();
        let fields = properties(object);
        fields
            .map(|(key, value)| (key.as_str(), value, required.iter().any(|name| *name == key)))
            .collect()
    }

    fn description(&self, value: &'a Value) -> String {
        let own = value["description"].as_str();
        let alternatives = self.alternatives(value).into_iter();
        let mut named = alternatives.filter_map(|one| self.named(one)?.1["description"].as_str());
        let description = own.or_else(|| named.next()).unwrap_or_default();
        description.to_owned()
    }

    /// The row of a key and those of the keys below it.
    fn rows(&mut self, page: &mut String, path: &str, value: &'a Value, is_required: bool) {
        let mut below = Vec::new();
        let kinds: Vec<_> = self
            .alternatives(value)
            .into_iter()
            .map(|one| self.kind(one, path, &mut below))
            .collect();
        let mut kind = one_of(&kinds);
        for (keyword, words) in [("minimum", "at least"), ("maximum", "at most")] {
            // A minimum of 0 is implied for unsigned numbers.
            if let Some(limit) = value[keyword]
                .as_f64()
                .filter(|limit| keyword == "maximum" || *limit != 0.0)
            {
                let _ = write!(kind, ", {words} {limit}");
            }
        }
        let mut meaning = escaped(&self.description(value));
        if !value["default"].is_null() {
            let _ = write!(meaning, " Default: {}.", code(&value["default"].to_string()));
        }
        if is_required {
            meaning = format!("Required. {meaning}");
        }
        let _ = writeln!(page, "| {} | {kind} | {} |", code(path), meaning.trim());
        for (path, value, is_required) in below {
            self.rows(page, &path, value, is_required);
        }
    }

    /// The type of a value; adds the keys to list below it.
    fn kind(&mut self, value: &'a Value, path: &str, below: &mut Vec<(String, &'a Value, bool)>) -> String {
        if let Some((name, definition)) = self.named(value) {
            let has_keys = definition["properties"].is_object();
            let is_small =
                properties(definition).all(|(_, value)| !self.is_section(value)) && properties(definition).count() < 4;
            if has_keys && self.uses[name] > 1 && !is_small {
                if !self.sections.contains(&name) {
                    self.sections.push(name);
                }
                let title = title(name);
                return format!("[{title}](#{})", title.to_lowercase().replace(' ', "-"));
            }
            let all = self.alternatives(definition);
            let kinds: Vec<_> = all.into_iter().map(|one| self.kind(one, path, below)).collect();
            return one_of(&kinds);
        }
        if let Some(values) = value["enum"].as_array() {
            let values = values.iter().filter_map(Value::as_str).map(code);
            return values.collect::<Vec<_>>().join(", ");
        }
        let types = match &value["type"] {
            Value::String(one) => vec![one.as_str()],
            Value::Array(several) => several
                .iter()
                .filter_map(Value::as_str)
                .filter(|one| *one != "null")
                .collect(),
            _ => vec!["any"],
        };
        let kinds = types.into_iter().map(|kind| match kind {
            "array" if value["items"].is_object() => {
                format!("list of {}", self.kind(&value["items"], &format!("{path}[]"), below))
            }
            "array" => "list".to_owned(),
            "object" if value["additionalProperties"].is_object() => {
                format!(
                    "map of {}",
                    self.kind(&value["additionalProperties"], &format!("{path}.NAME"), below)
                )
            }
            "object" => {
                let fields = self.fields(value).into_iter();
                below.extend(fields.map(|(key, value, is_required)| (format!("{path}.{key}"), value, is_required)));
                "object".to_owned()
            }
            kind => kind.to_owned(),
        });
        one_of(&kinds.collect::<Vec<_>>())
    }
}

/// Counts the references to each definition in a schema.
fn count<'a>(schema: &'a Value, uses: &mut BTreeMap<&'a str, usize>) {
    match schema {
        Value::Object(object) => {
            if let Some(name) = object.get("$ref").and_then(Value::as_str) {
                *uses.entry(name.trim_start_matches("#/$defs/")).or_default() += 1;
            }
            object.values().for_each(|value| count(value, uses));
        }
        Value::Array(values) => values.iter().for_each(|value| count(value, uses)),
        _ => {}
    }
}
