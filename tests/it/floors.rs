//! The folders of `src/` are floors: each uses only those above it in the list of `src/lib.rs`.
//!
//! Every path that begins with `crate` or climbs out of its folder by `super` counts, in re-exports and inline
//! tests too; comments and texts do not.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The modules of `lib.rs` in their order.
fn floors() -> Vec<String> {
    let text = std::fs::read_to_string(source().join("lib.rs")).unwrap();
    let names = text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    names.map(str::to_owned).collect()
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Names, `::`, braces, commas and everything else that ends a path; no comments, no literals.
fn tokens(text: &str) -> Vec<String> {
    let bytes = text.as_bytes();
    let mut tokens = Vec::new();
    let mut i = 0;
    while i < bytes.len() {
        let rest = &text[i..];
        if rest.starts_with("//") {
            i += rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with("/*") {
            i += rest.find("*/").map_or(rest.len(), |end| end + 2);
        } else if bytes[i] == b'"' {
            i += 1;
            while i < bytes.len() && bytes[i] != b'"' {
                i += if bytes[i] == b'\\' { 2 } else { 1 };
            }
            i += 1;
        } else if rest.starts_with("'\"'") {
            i += 3;
        } else if rest.starts_with("::") {
            tokens.push("::".to_owned());
            i += 2;
        } else if bytes[i].is_ascii_alphanumeric() || bytes[i] == b'_' {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            tokens.push(rest[..end].to_owned());
            i += end;
        } else {
            let length = rest.chars().next().unwrap().len_utf8();
            if !rest.starts_with(char::is_whitespace) {
                tokens.push(rest[..length].to_owned());
            }
            i += length;
        }
    }
    tokens
}

/// All paths of a tree that begins at `start`, for example `a::{b, c::d}`; returns where it ends.
fn tree(tokens: &[String], start: usize, before: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut path = before.to_vec();
    let mut i = start;
    loop {
        match tokens.get(i).map(String::as_str) {
            Some("{") => {
                i += 1;
                while tokens.get(i).is_some_and(|t| t != "}") {
                    i = tree(tokens, i, &path, found);
                    if tokens.get(i).is_some_and(|t| t == ",") {
                        i += 1;
                    }
                }
                return i + 1;
            }
            Some(name) => {
                path.push(name.to_owned());
                i += 1;
            }
            None => break,
        }
        if tokens.get(i).is_none_or(|t| t != "::") {
            break;
        }
        i += 1;
    }
    // `a as b`
    if tokens.get(i).is_some_and(|t| t == "as") {
        i += 2;
    }
    found.push(path);
    i
}

/// Modules of the library that a file names: the first name of every path from the crate's root.
fn used(file: &Path) -> BTreeSet<String> {
    let inside = file.strip_prefix(source()).unwrap().with_extension("");
    let mut module: Vec<String> = inside.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if module.last().is_some_and(|name| name == "mod" || name == "lib") {
        module.pop();
    }
    let tokens = tokens(&std::fs::read_to_string(file).unwrap());
    let (mut found, mut depth, mut inline) = (Vec::new(), 0usize, Vec::new());
    let mut i = 0;
    while i < tokens.len() {
        match tokens[i].as_str() {
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                if inline.last() == Some(&depth) {
                    inline.pop();
                }
            }
            // A module within the file: its `super` is the file.
            "mod" if tokens.get(i + 2).is_some_and(|t| t == "{") => inline.push(depth),
            _ => {}
        }
        let begins = i == 0 || tokens[i - 1] != "::";
        let path = tokens.get(i + 1).is_some_and(|t| t == "::");
        if begins && path && (tokens[i] == "crate" || tokens[i] == "super") {
            let mut paths = Vec::new();
            i = tree(&tokens, i, &[], &mut paths);
            for path in paths {
                let up = path.iter().take_while(|name| *name == "super").count();
                let base = match path[0].as_str() {
                    "crate" => Vec::new(),
                    // An inline module is one `super` deep already.
                    _ => {
                        module[..(module.len() + inline.len()).saturating_sub(up).min(module.len())].to_vec()
                    }
                };
                let names = path.iter().skip(up.max(1)).cloned();
                found.extend(base.into_iter().chain(names).next());
            }
            continue;
        }
        i += 1;
    }
    found.into_iter().collect()
}

#[test]
fn no_folder_uses_one_that_stands_below_it() {
    let floors = floors();
    let place = |name: &str| floors.iter().position(|floor| floor == name);
    let mut files = Vec::new();
    rust_files(&source(), &mut files);
    let mut wrong = Vec::new();
    for file in files {
        let inside = file.strip_prefix(source()).unwrap();
        let first = inside.iter().next().unwrap().to_str().unwrap();
        let own = first.strip_suffix(".rs").unwrap_or(first);
        let Some(floor) = place(own) else {
            assert_eq!(own, "lib", "`{own}` stands in src/ and not in lib.rs");
            continue;
        };
        for name in used(&file) {
            // Names that lib.rs hands on.
            let name = if name == "Error" || name == "Result" { "error".to_owned() } else { name };
            match place(&name) {
                Some(other) if other > floor => {
                    wrong.push(format!("{own} -> {name} (src/{})", inside.display()));
                }
                Some(_) => {}
                None => wrong.push(format!("{own} -> {name}, which is no module (src/{})", inside.display())),
            }
        }
    }
    wrong.sort();
    assert!(wrong.is_empty(), "{} arrows run back:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_front_page_is_short() {
    let (mut files, mut folders) = (0, 0);
    for entry in std::fs::read_dir(source()).unwrap() {
        match entry.unwrap().path().is_dir() {
            true => folders += 1,
            false => files += 1,
        }
    }
    assert!(files <= 8 && folders <= 20, "{files} files and {folders} folders in src/");
}

#[test]
fn paths_are_found_in_trees_and_not_in_texts() {
    let text = r#"use crate::{a::{B, c}, d}; // crate::e
        fn f() { super::super::g::h(); let s = "crate::i"; } /* crate::j */ pub use crate::k as l;"#;
    let tokens = tokens(text);
    let mut found = Vec::new();
    for i in 0..tokens.len() {
        if tokens[i] == "crate" {
            tree(&tokens, i, &[], &mut found);
        }
    }
    let found: Vec<String> = found.iter().map(|path| path.join("::")).collect();
    assert_eq!(found, ["crate::a::B", "crate::a::c", "crate::d", "crate::k"]);
}
