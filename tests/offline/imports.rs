//! Folders of the source import each other in one direction only, no files import each other in a circle, and a type name means one type.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use syn::visit::{self, Visit};

use crate::kit::documents::{files_below, root};

/// What each folder may import.
const ALLOWED: [(&str, &[&str]); 19] = [
    ("spec", &[]),
    ("model", &["spec"]),
    ("import", &["model", "spec"]),
    ("render", &["model", "spec"]),
    ("routing", &["model", "spec"]),
    ("state", &["model", "render", "spec"]),
    ("clients", &["model", "routing"]),
    ("console", &["spec"]),
    ("platform", &["clients", "console", "model", "render", "spec", "state"]),
    ("router", &["clients", "model", "platform", "routing"]),
    (
        "lifecycle",
        &[
            "clients", "model", "platform", "render", "console", "router", "routing", "spec", "state",
        ],
    ),
    (
        "logs",
        &["clients", "lifecycle", "model", "platform", "render", "routing", "spec"],
    ),
    (
        "jobs",
        &[
            "clients",
            "lifecycle",
            "logs",
            "model",
            "platform",
            "render",
            "console",
            "spec",
            "state",
        ],
    ),
    (
        "drill",
        &[
            "jobs",
            "lifecycle",
            "logs",
            "model",
            "platform",
            "render",
            "console",
            "spec",
            "state",
        ],
    ),
    (
        "routes",
        &[
            "clients",
            "lifecycle",
            "model",
            "platform",
            "render",
            "console",
            "router",
            "routing",
            "spec",
        ],
    ),
    (
        "doctor",
        &[
            "jobs",
            "lifecycle",
            "model",
            "platform",
            "render",
            "routes",
            "routing",
            "spec",
            "state",
        ],
    ),
    (
        "report",
        &[
            "clients",
            "doctor",
            "drill",
            "import",
            "jobs",
            "lifecycle",
            "logs",
            "model",
            "platform",
            "render",
            "console",
            "router",
            "routes",
            "routing",
            "spec",
            "state",
        ],
    ),
    (
        "commands",
        &[
            "clients",
            "doctor",
            "drill",
            "import",
            "jobs",
            "lifecycle",
            "logs",
            "model",
            "platform",
            "render",
            "report",
            "console",
            "router",
            "routes",
            "routing",
            "spec",
        ],
    ),
    ("cli", &["commands", "console", "lifecycle", "report", "spec"]),
];

/// Which modules each module imports, by their paths, such as `render::pods`. Tests and `main.rs` are left out.
type Imports = BTreeMap<String, BTreeSet<String>>;

/// The path of a file's module.
fn module_of(file: &Path, source: &Path) -> String {
    let module = file.strip_prefix(source).unwrap().with_extension("");
    let module = module.to_str().unwrap().replace('/', "::");
    module.strip_suffix("::mod").unwrap_or(&module).to_owned()
}

/// Gathers the paths of a file that begin with `crate`, `super` or `self`.
struct Paths<'a> {
    module: &'a str,
    found: Vec<String>,
}

impl Paths<'_> {
    fn add(&mut self, segments: &[String]) {
        let mut rest = segments.iter().map(String::as_str).peekable();
        let mut path: Vec<_> = match rest.next() {
            Some("crate") => vec![],
            Some("self") => self.module.split("::").collect(),
            Some("super") => self.module.split("::").collect(),
            _ => return,
        };
        let supers = segments.iter().take_while(|segment| *segment == "super").count();
        path.truncate(path.len().saturating_sub(supers));
        path.extend(rest.skip(supers.saturating_sub(1)));
        self.found.push(path.join("::"));
    }

    fn add_tree(&mut self, before: &mut Vec<String>, tree: &syn::UseTree) {
        match tree {
            syn::UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.add_tree(before, &path.tree);
                before.pop();
            }
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_tree(before, tree)),
            syn::UseTree::Name(syn::UseName { ident }) | syn::UseTree::Rename(syn::UseRename { ident, .. }) => {
                let last = (ident != "self").then(|| ident.to_string());
                self.add(&before.iter().cloned().chain(last).collect::<Vec<_>>());
            }
            syn::UseTree::Glob(_) => self.add(before),
        }
    }
}

impl<'ast> Visit<'ast> for Paths<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let attributes = match item {
            syn::Item::Mod(item) => &item.attrs,
            syn::Item::Fn(item) => &item.attrs,
            syn::Item::Impl(item) => &item.attrs,
            syn::Item::Use(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        let is_test = |attribute: &syn::Attribute| match &attribute.meta {
            syn::Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
            _ => false,
        };
        if !attributes.iter().any(is_test) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.add_tree(&mut vec![], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.add(
            &path
                .segments
                .iter()
                .map(|segment| segment.ident.to_string())
                .collect::<Vec<_>>(),
        );
        visit::visit_path(self, path);
    }
}

/// Every file of the source: the path of its module, and its syntax.
fn sources() -> Vec<(String, syn::File)> {
    let source = root().join("src");
    let files = files_below(&source, "rs").into_iter();
    files
        .map(|file| {
            let text = std::fs::read_to_string(&file).unwrap();
            (module_of(&file, &source), syn::parse_file(&text).unwrap())
        })
        .collect()
}

/// Reads the imports of all files. A folder's own file (`mod.rs`) lists what is in the folder: what it uses of that is no import.
fn imports() -> Imports {
    let sources = sources();
    let modules: BTreeSet<_> = sources.iter().map(|(module, _)| module.as_str()).collect();
    let mut imports = Imports::new();
    for (module, syntax) in sources.iter().filter(|(module, _)| module != "main") {
        let mut paths = Paths { module, found: vec![] };
        paths.visit_file(syntax);
        let imported = paths.found.iter().filter_map(|path| {
            let mut path = path.as_str();
            while !modules.contains(path) {
                path = path.rsplit_once("::")?.0;
            }
            Some(path.to_owned())
        });
        let inside = format!("{module}::");
        let imported = imported.filter(|other| other != module && !other.starts_with(&inside));
        imports.insert(module.clone(), imported.collect());
    }
    imports
}

/// The folder of a module.
fn folder(module: &str) -> &str {
    module.split("::").next().unwrap()
}

#[test]
fn folders_import_only_what_they_may() {
    let imports = imports();
    assert!(imports.len() > 150, "{}", imports.len());
    let may = |from: &str, to: &str| {
        let allowed = ALLOWED.iter().find(|(name, _)| *name == from);
        from == to || allowed.is_some_and(|(_, allowed)| allowed.contains(&to))
    };
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    for (module, others) in &imports {
        for other in others {
            used.insert((folder(module), folder(other)));
            if !may(folder(module), folder(other)) {
                wrong.push(format!("{module} imports {other}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let unused: Vec<_> = ALLOWED
        .iter()
        .flat_map(|&(from, allowed)| allowed.iter().map(move |&to| (from, to)))
        .filter(|edge| !used.contains(edge))
        .collect();
    assert!(
        unused.is_empty(),
        "allowed, but nothing imports so any more: {unused:?}"
    );
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let mut imports = imports();
    // Files that import nothing, or only files that are gone already, are in no circle.
    loop {
        let done: Vec<_> = imports
            .iter()
            .filter(|(_, others)| others.is_empty())
            .map(|(module, _)| module.clone())
            .collect();
        if done.is_empty() {
            break;
        }
        for module in done {
            imports.remove(&module);
            imports.values_mut().for_each(|others| {
                others.remove(&module);
            });
        }
    }
    // Nor are those that nothing in a circle imports.
    loop {
        let imported: BTreeSet<_> = imports.values().flatten().cloned().collect();
        let before = imports.len();
        imports.retain(|module, _| imported.contains(module));
        if imports.len() == before {
            break;
        }
    }
    assert!(imports.is_empty(), "{imports:#?}");
}

/// Each command has its `Arguments`, each client its `Error`, and each operating system its `Hangups` and `ProcessHandle`.
const SHARED_NAMES: [&str; 4] = ["Arguments", "Error", "Hangups", "ProcessHandle"];

#[test]
fn a_type_name_means_one_type() {
    let mut defined: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (module, syntax) in sources() {
        for item in syntax.items {
            let name = match item {
                syn::Item::Struct(item) => item.ident,
                syn::Item::Enum(item) => item.ident,
                syn::Item::Trait(item) => item.ident,
                syn::Item::Type(item) => item.ident,
                _ => continue,
            };
            defined.entry(name.to_string()).or_default().push(module.clone());
        }
    }
    assert!(defined.len() > 400, "{}", defined.len());
    defined.retain(|name, modules| modules.len() > 1 && !SHARED_NAMES.contains(&name.as_str()));
    assert!(defined.is_empty(), "{defined:#?}");
}
