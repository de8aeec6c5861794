//! The documents of the project, and what is in their code blocks.

use std::path::{Path, PathBuf};

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below a folder whose names have this extension, in the order of their paths; empty if there is no such folder.
pub fn files_below(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_below(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The documents whose code blocks are checked: README.md and docs/.
pub fn documents() -> Vec<PathBuf> {
    let mut documents = vec![root().join("README.md")];
    documents.extend(files_below(&root().join("docs"), "md"));
    documents
}

/// A code block of a document.
#[derive(Debug)]
pub struct Snippet {
    /// The document and line where it begins, as `docs/jobs.md:12`.
    pub place: String,
    /// What stands behind the opening fence, as `sh,kubernetes`.
    pub info: String,
    pub text: String,
}

/// The code blocks of a document, in their order.
pub fn snippets(document: &Path) -> Vec<Snippet> {
    let text = std::fs::read_to_string(document).unwrap();
    let name = document.strip_prefix(root()).unwrap_or(document).display();
    let mut found: Vec<Snippet> = Vec::new();
    let mut fence: Option<String> = None;
    for (number, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        let ticks = trimmed.len() - trimmed.trim_start_matches('`').len();
        match &fence {
            None if ticks >= 3 => {
                fence = Some(trimmed[..ticks].to_owned());
                found.push(Snippet {
                    place: format!("{name}:{}", number + 1),
                    info: trimmed[ticks..].trim().to_owned(),
                    text: String::new(),
                });
            }
            None => {}
            Some(open) if trimmed.trim_end() == open => fence = None,
            Some(_) => {
                let snippet = found.last_mut().unwrap();
                snippet.text += &format!("{line}\n");
            }
        }
    }
    assert_eq!(fence, None, "{name}: the last code block has no end");
    found
}
