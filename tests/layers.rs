//! Imports go downwards only.
//!
//! A file may use its own layer and those below it. What the layers are for is told in `docs/design.md`; which file is
//! in which is told here. A new file fails this test until somebody has decided where it belongs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The modules of each layer, lowest layer first. `a/*` is everything below `a`, and `a` itself.
const LAYERS: [&[&str]; 6] = [
    &[
        "adaptive/*",
        "alarm",
        "budget/*",
        "clock",
        "config",
        "encode",
        "error",
        "event",
        "extensions",
        "helpers",
        "incident",
        "lease",
        "manager",
        "redact",
        "stats",
        "text",
        "sync",
        "warm_up",
    ],
    &[
        "pool/entry",
        "pool/lifespan",
        "pool/model/*",
        "pool/rack/*",
        "pool/seat",
        "pool/shelf",
        "pool/waiters",
        "pool/warming",
    ],
    &["pool/shared/*"],
    &["maintenance/*"],
    &["builder", "pool", "pool/bound", "pool/control", "pool/guard", "pool/member"],
    &[
        "balance/*",
        "batch/*",
        "drop_in",
        "fan_out/*",
        "health/*",
        "keyed/*",
        "metrics",
        "pool_config/*",
        "prometheus/*",
        "r2d2/*",
        "read_write",
        "redis/*",
        "reset/*",
        "roles",
        "scaling",
        "scope",
        "sizing",
        "sqlite/*",
        "status/*",
        "testing/*",
    ],
];

#[test]
fn no_file_imports_from_a_higher_layer() {
    let faults = read_tree().faults();
    assert!(faults.is_empty(), "{} in all:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn no_layer_lists_a_module_that_is_gone() {
    let tree = read_tree();
    for name in LAYERS.iter().flat_map(|names| names.iter()) {
        let module = name.trim_end_matches("/*");
        assert!(tree.files.contains_key(module), "no src/{module}.rs and no src/{module}/mod.rs");
    }
}

#[test]
fn an_upward_import_is_found_and_named() {
    let tree = tree("pub use pool::Pool;", &[("pool", ""), ("pool/shelf", "\nuse crate::{\n    Pool as P,\n};")]);
    assert_eq!(tree.faults(), ["src/pool/shelf.rs:3: crate::Pool: a file of L1 uses pool, which is in L4"]);
}

#[test]
fn a_file_without_a_layer_is_a_fault() {
    let tree = tree("", &[("pool/newcomer", "")]);
    assert_eq!(tree.faults(), ["src/pool/newcomer.rs: in no layer: decide which, and add it to tests/layers.rs"]);
}

#[test]
fn use_trees_and_inline_paths_are_taken_apart() {
    let upward = |source: &str| {
        let files = [("pool", ""), ("pool/shared", ""), ("clock", ""), ("error", ""), ("pool/rack", source)];
        let faults = tree("pub use error::{Error, ErrorKind as Kind};", &files).faults();
        faults.into_iter().map(|fault| fault.split(": ").nth(1).unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(upward("use crate::clock::{self, Moment}; use crate::{Error, Kind};"), [""; 0]);
    assert_eq!(
        upward("use crate::{clock::{Clock}, pool::{shared::*, Pool}};"),
        ["crate::pool::shared::*", "crate::pool::Pool"]
    );
    assert_eq!(upward("fn f(c: &'static str) -> crate::pool::Pool<crate::clock::Clock> { }"), ["crate::pool::Pool"]);
    assert_eq!(upward("pub(crate) fn f() { crate::pool::shared::open::open(1) }"), ["crate::pool::shared::open::open"]);
    assert_eq!(
        upward("use super::Pool; use super::shared::{Core, Item};"),
        ["super::Pool", "super::shared::Core", "super::shared::Item"]
    );
    assert_eq!(upward("mod inner { use super::f; use super::super::Pool; }"), ["super::super::Pool"]);
    assert_eq!(upward("use crate::pool::r#shared::Core;"), ["crate::pool::shared::Core"]);
}

#[test]
fn comments_strings_and_test_modules_may_name_anything() {
    let source = r##"
        //! See [`crate::Pool`].
        /* use crate::pool::Pool; /* nested */ use crate::pool::Pool; */
        /// `use crate::pool::Pool;`
        const A: &str = "use crate::pool::Pool; \" crate::pool::Pool";
        const B: &[u8] = br#"" crate::pool::Pool"#;
        const C: (char, char, &'static str) = ('"', '\'', "crate::pool::Pool");
        #[cfg(test)]
        #[allow(unused_imports, reason = "crate::pool::Pool")]
        mod tests { use crate::pool::Pool; fn f() { { } } use crate::pool::Pool; }
        #[cfg(all(test, not(loom)))]
        pub(crate) mod more { use crate::pool::Pool; }
    "##;
    assert_eq!(tree("", &[("pool", ""), ("clock", source)]).faults(), [""; 0]);
    let not_only_in_tests = "#[cfg(any(test, loom))] mod hand { use crate::pool::Pool; }";
    assert_eq!(tree("", &[("pool", ""), ("clock", not_only_in_tests)]).faults().len(), 1);
}

#[test]
fn a_name_that_nobody_defines_is_a_fault() {
    let tree = tree("pub use elsewhere::Thing;", &[("clock", "use crate::Thing; use crate::*;")]);
    assert_eq!(
        tree.faults(),
        [
            "src/clock.rs:1: crate::Thing: no module of the crate defines it, so its layer is not known",
            "src/clock.rs:1: crate::*: no module of the crate defines it, so its layer is not known"
        ]
    );
}

/// The crate: its modules by path (`pool/shared`), and where the names at its root come from.
struct Tree {
    files: BTreeMap<String, File>,
    root: BTreeMap<String, Vec<String>>,
}

struct File {
    /// As a person would name it.
    name: String,
    imports: Vec<Import>,
}

/// A path in the source, from `crate`, `self` or `super` on.
struct Import {
    line: usize,
    path: Vec<String>,
    /// What the path has been renamed to, or else its last part.
    name: String,
    /// How many modules within the file it is in.
    depth: usize,
}

impl Tree {
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (module, file) in &self.files {
            let Some(own) = layer(module) else {
                faults.push(format!("{}: in no layer: decide which, and add it to tests/layers.rs", file.name));
                continue;
            };
            for import in &file.imports {
                let place = format!("{}:{}: {}", file.name, import.line, import.path.join("::"));
                let Some(used) = self.home(module, import) else {
                    faults.push(format!("{place}: no module of the crate defines it, so its layer is not known"));
                    continue;
                };
                // A module without a layer is a fault of its own file.
                if let Some(its) = layer(&used).filter(|&its| its > own) {
                    faults.push(format!("{place}: a file of L{own} uses {used}, which is in L{its}"));
                }
            }
        }
        faults
    }

    /// The module whose file defines what `import`, somewhere in the file of `module`, names.
    fn home(&self, module: &str, import: &Import) -> Option<String> {
        let mut at: Vec<&str> = Vec::new();
        // How many modules within the file the path has yet to leave before it leaves the file.
        let mut inside = 0;
        let mut names = import.path.iter().map(String::as_str).peekable();
        if names.next_if_eq(&"crate").is_none() {
            at.extend(module.split('/'));
            inside = import.depth;
            while let Some(step) = names.next_if(|&name| name == "self" || name == "super") {
                if step == "super" && inside > 0 {
                    inside -= 1;
                } else if step == "super" {
                    at.pop();
                }
            }
        }
        // What is named relative to a module within the file is in the file, or came into it by another import.
        if inside == 0 {
            for name in names {
                let next = [at.as_slice(), &[name]].concat();
                if self.files.contains_key(&next.join("/")) {
                    at = next;
                    continue;
                }
                if at.is_empty() {
                    return self.root_home(name);
                }
                break;
            }
        }
        // The root alone is where a path like `super::*` of a top module leads.
        (!at.is_empty()).then(|| at.join("/"))
    }

    /// The module that a name at the root of the crate is re-exported from.
    fn root_home(&self, name: &str) -> Option<String> {
        let from = self.root.get(name)?;
        (1..=from.len())
            .rev()
            .filter_map(|len| from.get(..len))
            .map(|part| part.join("/"))
            .find(|module| self.files.contains_key(module))
    }
}

/// The layer of a module: 0 is the lowest.
fn layer(module: &str) -> Option<usize> {
    let fits = |name: &str| match name.strip_suffix("/*") {
        Some(above) => module.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        None => module == name,
    };
    LAYERS.iter().position(|names| names.iter().any(|name| fits(name)))
}

/// A crate made of strings.
fn tree(root: &str, files: &[(&str, &str)]) -> Tree {
    let files = files.iter().map(|&(module, source)| {
        let file = File { name: format!("src/{module}.rs"), imports: imports(source) };
        (module.to_owned(), file)
    });
    Tree { files: files.collect(), root: exports(root) }
}

/// This crate.
fn read_tree() -> Tree {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut tree = Tree { files: BTreeMap::new(), root: BTreeMap::new() };
    read_dir(&src, "", &mut tree);
    assert!(tree.files.len() > 20 && !tree.root.is_empty(), "the sources are there");
    tree
}

fn read_dir(dir: &Path, prefix: &str, tree: &mut Tree) {
    for entry in fs::read_dir(dir).expect("the sources are there") {
        let path = entry.expect("the directory can be read").path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("file names are plain text");
        if path.is_dir() {
            read_dir(&path, &format!("{prefix}{stem}/"), tree);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path).expect("sources are text");
            let name = format!("src/{prefix}{stem}.rs");
            match stem {
                // The root is in no layer: it only says what the modules are called.
                "lib" if prefix.is_empty() => tree.root = exports(&source),
                "mod" => {
                    let file = File { name, imports: imports(&source) };
                    tree.files.insert(prefix.trim_end_matches('/').to_owned(), file);
                }
                _ => {
                    let file = File { name, imports: imports(&source) };
                    tree.files.insert(format!("{prefix}{stem}"), file);
                }
            }
        }
    }
}

/// The `pub use` lines of the root: each name and the path behind it.
fn exports(source: &str) -> BTreeMap<String, Vec<String>> {
    let mut reader = Reader::new(source);
    let mut found = Vec::new();
    while let Some(token) = reader.next() {
        if token == "use" {
            reader.use_tree(&mut Vec::new(), &mut found);
        }
    }
    let from_here = |part: &String| part == "crate" || part == "self";
    found.into_iter().map(|import| (import.name, import.path.into_iter().skip_while(from_here).collect())).collect()
}

/// The paths in a source that begin with `crate`, `self` or `super`, outside comments, strings and test modules.
fn imports(source: &str) -> Vec<Import> {
    let mut reader = Reader::new(source);
    let mut found = Vec::new();
    // For each open brace, whether it is that of a module.
    let mut open = Vec::new();
    while let Some(token) = reader.next() {
        let depth = open.iter().filter(|&&module| module).count();
        match token {
            "#" if reader.only_in_tests() => reader.skip_module(),
            "mod" if reader.peek(1) == Some("{") => {
                reader.next();
                reader.next();
                open.push(true);
            }
            "{" => open.push(false),
            "}" => drop(open.pop()),
            "use" => {
                let first = found.len();
                reader.use_tree(&mut Vec::new(), &mut found);
                let relative = |import: &Import| import.path.first().is_some_and(|part| starts_a_path(part));
                let mine: Vec<_> = found.drain(first..).filter(relative).collect();
                found.extend(mine.into_iter().map(|import| Import { depth, ..import }));
            }
            // A path that names something, and neither a visibility nor a receiver.
            _ if starts_a_path(token) && reader.peek(0) == Some("::") => {
                let line = reader.line();
                let mut path = vec![token.to_owned()];
                while reader.peek(0) == Some("::") && reader.peek(1).is_some_and(is_name) {
                    reader.next();
                    path.extend(reader.next().map(str::to_owned));
                }
                found.push(Import { line, name: String::new(), path, depth });
            }
            _ => {}
        }
    }
    found
}

fn starts_a_path(token: &str) -> bool {
    ["crate", "self", "super"].contains(&token)
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// The tokens of a source, as far as paths need them, each with its line.
struct Reader<'a> {
    tokens: Vec<(usize, &'a str)>,
    at: usize,
}

impl<'a> Reader<'a> {
    fn new(source: &'a str) -> Self {
        Self { tokens: tokens(source), at: 0 }
    }

    fn next(&mut self) -> Option<&'a str> {
        let token = self.peek(0)?;
        self.at += 1;
        Some(token)
    }

    fn peek(&self, ahead: usize) -> Option<&'a str> {
        self.tokens.get(self.at + ahead).map(|&(_, token)| token)
    }

    /// The line of the token that was read last.
    fn line(&self) -> usize {
        self.tokens.get(self.at.saturating_sub(1)).map_or(0, |&(line, _)| line)
    }

    /// Reads what follows `use`, or a branch of it, down to the comma, brace or semicolon that ends it.
    fn use_tree(&mut self, path: &mut Vec<String>, found: &mut Vec<Import>) {
        let above = path.len();
        while let Some(token) = self.next() {
            match token {
                "::" => continue,
                "{" => {
                    while self.peek(0).is_some_and(|token| token != "}") {
                        self.use_tree(path, found);
                        if self.peek(0) == Some(",") {
                            self.next();
                        }
                    }
                    self.next();
                    path.truncate(above);
                    return;
                }
                _ => path.push(token.to_owned()),
            }
            if self.peek(0) != Some("::") && self.peek(0) != Some("{") {
                break;
            }
        }
        // `a::{self}` is `a`.
        if path.len() > 1 && path.last().is_some_and(|part| part == "self") {
            path.pop();
        }
        let line = self.line();
        let mut name = path.last().cloned().unwrap_or_default();
        if self.peek(0) == Some("as") {
            self.next();
            name = self.next().unwrap_or_default().to_owned();
        }
        found.push(Import { line, path: path.clone(), name, depth: 0 });
        path.truncate(above);
    }

    /// Whether the attribute that begins here, with the others after it, is that of a module that only tests build.
    fn only_in_tests(&self) -> bool {
        let test = ["[", "cfg", "(", "test", ")", "]"];
        let all = ["[", "cfg", "(", "all", "(", "test", ","];
        let begins = |with: &[&str]| with.iter().enumerate().all(|(n, &token)| self.peek(n) == Some(token));
        if !begins(&test) && !begins(&all) {
            return false;
        }
        let mut ahead = 0;
        let mut depth = 0_u32;
        // Past the attributes and the visibility, to the word that says what it is.
        while let Some(token) = self.peek(ahead) {
            ahead += 1;
            match token {
                "[" | "(" => depth += 1,
                "]" | ")" => depth = depth.saturating_sub(1),
                "#" | "pub" => {}
                _ if depth > 0 => {}
                _ => return token == "mod" && self.peek(ahead + 1) == Some("{"),
            }
        }
        false
    }

    fn skip_module(&mut self) {
        while self.next().is_some_and(|token| token != "{") {}
        let mut depth = 1_u32;
        while depth > 0 {
            match self.next() {
                Some("{") => depth += 1,
                Some("}") => depth -= 1,
                Some(_) => {}
                None => return,
            }
        }
    }
}

fn tokens(source: &str) -> Vec<(usize, &str)> {
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let (len, keep) = if rest.starts_with("//") {
            (rest.find('\n').unwrap_or(rest.len()), false)
        } else if rest.starts_with("/*") {
            (block_comment(rest), false)
        } else if let Some(len) = raw_string(rest) {
            (len, false)
        } else if let Some(word) = rest.strip_prefix("r#") {
            // A raw name is the name itself.
            rest = word;
            continue;
        } else if first == '"' {
            (quoted(rest, '"'), false)
        } else if first == '\'' {
            (quote(rest), false)
        } else if rest.starts_with("::") {
            (2, true)
        } else if first.is_alphanumeric() || first == '_' {
            (rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len()), true)
        } else {
            (first.len_utf8(), !first.is_whitespace())
        };
        let (token, after) = rest.split_at(len);
        if keep {
            tokens.push((line, token));
        }
        line += token.matches('\n').count();
        rest = after;
    }
    tokens
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0_u32;
    let mut len = 0;
    while let Some(tail) = rest.get(len..).filter(|tail| !tail.is_empty()) {
        if tail.starts_with("/*") {
            depth += 1;
            len += 2;
        } else if tail.starts_with("*/") {
            depth -= 1;
            len += 2;
            if depth == 0 {
                break;
            }
        } else {
            len += tail.chars().next().map_or(1, char::len_utf8);
        }
    }
    len
}

/// The length of the raw string that begins here, of whatever kind.
fn raw_string(rest: &str) -> Option<usize> {
    let prefix = ["r", "br", "cr"]
        .into_iter()
        .find(|&prefix| rest.strip_prefix(prefix).is_some_and(|rest| rest.trim_start_matches('#').starts_with('"')))?;
    let after = rest.get(prefix.len()..)?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let end = format!("\"{}", "#".repeat(hashes));
    let start = prefix.len() + hashes + 1;
    let inside = rest.get(start..)?;
    Some(start + inside.find(&end).map_or(inside.len(), |at| at + end.len()))
}

/// The length of what stands between two quotation marks, these included.
fn quoted(rest: &str, mark: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == mark => return at + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

/// The length of a character, or of the mark that begins a lifetime.
fn quote(rest: &str) -> usize {
    let mut chars = rest.chars().skip(1);
    match (chars.next(), chars.next()) {
        (Some('\\'), _) | (Some(_), Some('\'')) => quoted(rest, '\''),
        _ => 1,
    }
}
