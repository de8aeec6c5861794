//! Links in the documents lead to files and headings that exist, and the book has every page of docs/.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::kit::documents::{documents, files_below, root};

/// The documents whose links are checked.
fn linked() -> Vec<PathBuf> {
    let others = ["SECURITY.md", "NOTES.md", "CONTRIBUTING.md", "CHANGELOG.md"];
    let others = others.map(|name| root().join(name));
    documents().into_iter().chain(others).collect()
}

/// The lines of a document that are no code block.
fn prose(document: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(document).unwrap();
    let mut is_code = false;
    let is_prose = |line: &&str| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    };
    text.lines().filter(is_prose).map(str::to_owned).collect()
}

/// The targets of a line's links and pictures, but for those in code.
fn targets(line: &str) -> Vec<String> {
    let code = line.split('`').enumerate();
    let outside: String = code.map(|(at, part)| if at % 2 == 0 { part } else { "" }).collect();
    let between = |open: &str, close: char| {
        let parts = outside.split(open).skip(1);
        let targets = parts.filter_map(|part| Some(part.split_once(close)?.0.split_whitespace().next()?.to_owned()));
        targets.collect::<Vec<_>>()
    };
    [between("](", ')'), between(" src=\"", '"')].concat()
}

/// The anchors of a document's headings, as GitHub and mdBook make them.
fn anchors(document: &Path) -> Vec<String> {
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    let lines = prose(document);
    let headings = lines.iter().filter(|line| line.starts_with('#'));
    let anchors = headings.map(|heading| {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let is_kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
        let anchor = text.chars().filter(is_kept).collect::<String>().replace(' ', "-");
        let time = times.entry(anchor.clone()).or_default();
        *time += 1;
        match *time {
            1 => anchor,
            time => format!("{anchor}-{}", time - 1),
        }
    });
    anchors.collect()
}

#[test]
fn links_lead_somewhere() {
    let mut broken = Vec::new();
    for document in linked() {
        for target in prose(&document).iter().flat_map(|line| targets(line)) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let file = match path {
                "" => document.clone(),
                path => document.parent().unwrap().join(path),
            };
            let has_anchor = || anchor.is_empty() || anchors(&file).iter().any(|known| known == anchor);
            if !file.exists() || !has_anchor() {
                broken.push(format!(
                    "{}: {target}",
                    document.strip_prefix(root()).unwrap().display()
                ));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn the_book_has_every_page() {
    let docs = root().join("docs");
    let summary = docs.join("SUMMARY.md");
    let listed: Vec<_> = prose(&summary).iter().flat_map(|line| targets(line)).collect();
    for page in files_below(&docs, "md").iter().filter(|page| **page != summary) {
        let name = page.strip_prefix(&docs).unwrap().to_str().unwrap();
        assert!(
            listed.iter().any(|listed| listed == name),
            "docs/SUMMARY.md does not list {name}"
        );
    }
}
