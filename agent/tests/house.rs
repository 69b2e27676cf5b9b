//! The house: which crate may know which, no module cycles, and documents that name what exists.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the agent lies in the workspace").to_owned()
}

/// The packages of this workspace that a member's `[dependencies]` name.
fn siblings(member: &str) -> BTreeSet<String> {
    let manifest: toml::Table = fs::read_to_string(root().join(member).join("Cargo.toml"))
        .expect("each member has a manifest")
        .parse()
        .expect("cargo reads it too");
    let names = manifest.get("dependencies").and_then(toml::Value::as_table).into_iter().flat_map(|table| table.keys());
    names.filter(|name| name.starts_with("muster")).cloned().collect()
}

#[test]
fn crates_know_only_what_they_may() {
    let allowed: [(&str, &[&str]); 5] = [
        ("catalog", &[]),
        ("gossip", &[]),
        ("health", &["muster-catalog"]),
        ("dns", &["muster-catalog"]),
        ("agent", &["muster-catalog", "muster-gossip", "muster-health", "muster-dns"]),
    ];
    for (member, may) in allowed {
        let may: BTreeSet<String> = may.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(siblings(member), may, "arrows out of {member}");
    }
}

#[test]
fn the_catalog_knows_no_runtime() {
    let manifest = fs::read_to_string(root().join("catalog/Cargo.toml")).expect("the catalog has a manifest");
    for foreign in ["tokio", "hyper", "openraft", "serde_json", "tracing"] {
        assert!(!manifest.contains(foreign), "the catalog names {foreign}");
    }
}

#[test]
fn openraft_is_imported_in_one_folder() {
    for file in sources(&root().join("agent/src")) {
        if !file.starts_with(root().join("agent/src/raft")) {
            let text = fs::read_to_string(&file).expect("it was just listed");
            assert!(!text.contains("use openraft"), "{} imports openraft", file.display());
        }
    }
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of the house").map(|entry| entry.expect("it can be listed").path()) {
        if entry.is_dir() {
            found.extend(sources(&entry));
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            found.push(entry);
        }
    }
    found.sort();
    found
}

/// Files of tests alone may look back at what they test.
fn is_test(file: &Path) -> bool {
    file.components().any(|part| ["tests", "tests.rs", "testing.rs", "testing"].iter().any(|test| part.as_os_str() == *test))
}

/// The code of a file without its comments, strings and tests, as far as a few rules tell.
fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).expect("it was just listed");
    let text = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Module path of a file below `src`: `desk/write.rs` is `["desk", "write"]`.
fn module(src: &Path, file: &Path) -> Vec<String> {
    let below = file.strip_prefix(src).expect("it lies there").with_extension("");
    let mut path: Vec<String> = below.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if path.last().is_some_and(|last| last == "mod" || last == "lib" || last == "main") {
        path.pop();
    }
    path
}

/// For each folder of modules (by path), which of its modules names which sibling, by `crate::…` or `super::…`.
fn arrows(src: &Path) -> BTreeMap<Vec<String>, BTreeMap<String, BTreeSet<String>>> {
    let files: Vec<_> = sources(src).into_iter().filter(|file| !is_test(file)).collect();
    let modules: BTreeSet<Vec<String>> = files.iter().map(|file| module(src, file)).collect();
    let mut arrows: BTreeMap<Vec<String>, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for file in &files {
        let here = module(src, file);
        for target in named(&code(file), &here) {
            // The longest prefix of what is named that is a module.
            let Some(target) = (1..=target.len()).rev().map(|n| target[..n].to_vec()).find(|path| modules.contains(path)) else {
                continue;
            };
            let common = here.iter().zip(&target).take_while(|(a, b)| a == b).count();
            let (Some(from), Some(to)) = (here.get(common), target.get(common)) else { continue };
            arrows.entry(here[..common].to_vec()).or_default().entry(from.clone()).or_default().insert(to.clone());
        }
    }
    arrows
}

/// The absolute module paths that a file names.
fn named(code: &str, here: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (start, base) in code.match_indices("crate::").map(|(at, _)| (at + 7, Vec::new())).chain(supers(code, here)) {
        let rest = &code[start..];
        if let Some(group) = rest.strip_prefix('{') {
            let group = &group[..group.find('}').unwrap_or(group.len())];
            for item in group.split(',') {
                found.push(join(&base, item.trim()));
            }
        } else {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(rest.len());
            found.push(join(&base, &rest[..end]));
        }
    }
    found
}

fn supers(code: &str, here: &[String]) -> Vec<(usize, Vec<String>)> {
    let starts = code.match_indices("super::").filter(|(at, _)| !code[..*at].ends_with("super::"));
    starts
        .map(|(at, _)| {
            let mut rest = &code[at..];
            let mut base = here.to_vec();
            while let Some(further) = rest.strip_prefix("super::") {
                base.pop();
                rest = further;
            }
            (code.len() - rest.len(), base)
        })
        .collect()
}

fn join(base: &[String], rest: &str) -> Vec<String> {
    base.iter().cloned().chain(rest.split("::").map(|part| part.trim().to_owned())).filter(|part| !part.is_empty()).collect()
}

/// A way from a module back to itself, if there is one.
fn cycle(arrows: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn walk(at: &str, arrows: &BTreeMap<String, BTreeSet<String>>, way: &mut Vec<String>, done: &mut BTreeSet<String>) -> bool {
        if let Some(begin) = way.iter().position(|seen| seen == at) {
            way.drain(..begin);
            way.push(at.to_owned());
            return true;
        }
        if done.contains(at) {
            return false;
        }
        way.push(at.to_owned());
        if arrows.get(at).into_iter().flatten().any(|next| walk(next, arrows, way, done)) {
            return true;
        }
        way.pop();
        done.insert(at.to_owned());
        false
    }
    let mut done = BTreeSet::new();
    arrows.keys().find_map(|at| {
        let mut way = Vec::new();
        walk(at, arrows, &mut way, &mut done).then_some(way)
    })
}

#[test]
fn no_modules_form_a_cycle() {
    for member in ["catalog", "gossip", "health", "dns", "agent"] {
        for (folder, arrows) in arrows(&root().join(member).join("src")) {
            assert_eq!(cycle(&arrows), None, "in {member}/src/{}", folder.join("/"));
        }
    }
}

#[test]
fn the_agents_arrows_point_down() {
    // main → assemble → door · loops → desk → raft → rpc → config · telemetry · error; the command line stands beside the assembly,
    // and what a fuzzer throws things at beside them: it is in no program.
    let floor = ["cli", "assemble", "door", "loops", "desk", "raft", "rpc", "telemetry", "config", "error"];
    let level = |name: &str| match name {
        "assemble" | "cli" | "fuzz" => 5,
        "door" | "loops" => 4,
        "desk" => 3,
        "raft" => 2,
        "rpc" => 1,
        "config" | "telemetry" | "error" => 0,
        other => panic!("{other} has no place in the house: {floor:?}"),
    };
    let arrows = arrows(&root().join("agent/src")).remove(&Vec::new()).unwrap_or_default();
    for (from, to) in arrows.iter().flat_map(|(from, all)| all.iter().map(move |to| (from, to))) {
        assert!(level(from) > level(to), "{from} knows {to}: arrows point down");
    }
}

#[test]
fn paths_in_the_documents_exist() {
    for document in [
        "README.md",
        "ARCHITECTURE.md",
        "docs/cluster.md",
        "docs/compatibility.md",
        "docs/migrating.md",
        "docs/simulate.md",
        "CHANGELOG.md",
    ] {
        let text = fs::read_to_string(root().join(document)).expect("the document is there");
        for quoted in text.split('`').skip(1).step_by(2) {
            let path = quoted.split(['#', ':']).next().unwrap_or_default();
            let ours = ["catalog/", "gossip/", "health/", "dns/", "agent/", "examples/", "bench/", "docs/", "patches/", ".ci/"]
                .iter()
                .any(|top| path.starts_with(top));
            if ours && !path.contains(['*', ' ', '<', '{', '…']) {
                assert!(root().join(path).exists(), "{document} names {path}, which is not there");
            }
        }
    }
}

#[test]
fn a_cycle_is_seen() {
    let graph = |pairs: &[(&str, &str)]| {
        let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (from, to) in pairs {
            arrows.entry((*from).to_owned()).or_default().insert((*to).to_owned());
        }
        arrows
    };
    assert!(cycle(&graph(&[("a", "b"), ("b", "c"), ("c", "a")])).is_some());
    assert!(cycle(&graph(&[("a", "b"), ("b", "c"), ("a", "c")])).is_none());
    let here = ["desk".to_owned(), "write".to_owned()];
    assert_eq!(named("use super::{Act, local::Local}; use crate::raft::Raft;", &here).len(), 3);
}
