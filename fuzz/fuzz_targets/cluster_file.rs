//! Any text as a cluster file: mistakes lie inside of the text. A file that is accepted can be rendered, and what the inventory keeps of it
//! describes the same cluster.

#![no_main]
#![allow(dead_code, unused_imports)]

#[path = "../../src/model/mod.rs"]
mod model;
#[path = "../../src/render/mod.rs"]
mod render;
#[path = "../../src/spec/mod.rs"]
mod spec;

use libfuzzer_sys::fuzz_target;
use spec::ClusterSpec;
use spec::overrides::Overrides;
use spec::problem::{Location, Problems};
use spec::resolve::{Source, resolve};

fuzz_target!(|text: &str| {
    match read(text, &Overrides::default()) {
        Ok(accepted) => check_accepted(&accepted),
        Err(problems) => check_problems(text, &problems),
    }
});

fn read(text: &str, flags: &Overrides) -> Result<ClusterSpec, Problems> {
    let source = Source {
        name: "sparkha.yaml",
        text,
    };
    resolve(Some(source), flags)
}

fn check_accepted(accepted: &ClusterSpec) {
    let rendered = render::render(accepted);
    assert!(rendered.objects.iter().all(|object| object.object.is_object()));
    let Some(kept) = &accepted.cluster_file else { return };
    let flags = Overrides {
        name: Some(accepted.name.to_string()),
        namespace: accepted.namespace.as_ref().map(ToString::to_string),
        ..Overrides::default()
    };
    let again = read(kept, &flags).unwrap_or_else(|problems| panic!("{kept}\n{problems}"));
    assert_eq!(&again, accepted, "{kept}");
}

fn check_problems(text: &str, problems: &Problems) {
    assert!(!problems.list.is_empty());
    // To YAML, a carriage return ends a line, too.
    let lines = text.split(['\n', '\r']).count() as u64;
    for problem in &problems.list {
        assert!(!problem.message.is_empty());
        let Location::File { line, column, .. } = &problem.location else {
            panic!("{problem:?}")
        };
        assert!((1..=lines + 1).contains(line) && *column >= 1, "{problem:?}");
    }
}
