//! The map of ARCHITECTURE.md, held against the code: who may import whom, where `unsafe` and files may be.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Module -> modules it may use. A module is named by its path below `src/`; the longest name that matches a file counts.
/// What is not listed may be used by nobody.
const ARROWS: &[(&str, &[&str])] = &[
    ("main", &["agent", "api", "client", "config", "files", "kubectl", "net", "runtime", "server", "transport"]),
    ("config", &["api"]),
    ("api", &[]),
    ("transport", &[]),
    ("metrics", &[]),
    ("files", &[]),
    ("client", &["api", "transport"]),
    ("kubectl", &["api", "client"]),
    // What a node uses is told in the text form of metrics too.
    ("agent", &["api", "client", "files", "metrics", "runtime", "net", "transport"]),
    ("runtime", &[]),
    ("net", &[]),
    ("server", &["api", "config", "files", "metrics", "transport", "server"]),
    ("server/pki", &["api", "files", "transport"]),
    ("server/store", &["api", "metrics"]),
    ("server/encryption", &["api", "server/store"]),
    // Both who enforces quotas and who shows them must measure alike.
    ("server/quota", &["api", "server/store"]),
    ("server/registry", &["api", "server/quota", "server/store"]),
    ("server/registry/strategy", &["api"]),
    ("server/kinds", &["api", "server/registry"]),
    ("server/custom", &["api", "server/kinds", "server/outbound", "server/registry", "server/store"]),
    ("server/auth", &["api", "server/outbound", "server/registry", "server/store", "server/pki"]),
    (
        "server/http",
        &[
            "api",
            "metrics",
            "server/aggregation",
            "transport",
            "server/auth",
            "server/outbound",
            "server/registry",
            "server/store",
            "server/tunnel",
            "server/pki",
        ],
    ),
    ("server/reconcile", &["api", "metrics", "server/registry", "server/store"]),
    ("server/aggregation", &["api", "server/outbound", "server/registry", "server/store"]),
    ("server/outbound", &["api", "server/store", "server/tunnel", "transport"]),
    // Both who calls pods and who relays to nodes go the way that a node keeps open.
    ("server/tunnel", &[]),
    ("server/scheduler", &["api", "server/reconcile", "server/store"]),
    ("server/controllers", &["api", "server/auth", "server/kinds", "server/pki", "server/quota", "server/reconcile", "server/store"]),
];

/// Modules of the executable, which is not part of the library.
const BINARY: &[&str] = &[
    "main.rs",
    "standalone.rs",
    "node.rs",
    "renumbered.rs",
    "token.rs",
    "image.rs",
    "hello.rs",
    "secrets_encrypt.rs",
    "reset.rs",
    "check_config.rs",
];

/// The only files with `unsafe`.
const UNSAFE: &[&str] = &["runtime/sys.rs", "net/sys.rs"];

fn sources() -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("src is readable") {
            let path = entry.expect("src is readable").path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    walk(&root, &mut paths);
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&root).expect("is below src").display().to_string();
        (name, std::fs::read_to_string(&path).expect("is text"))
    };
    paths.into_iter().filter(|path| path.extension().is_some_and(|ext| ext == "rs")).map(read).collect()
}

/// `server/http/verbs.rs` -> `server/http`, the longest entry of ARROWS that it is or lies below.
fn owner(file: &str) -> Option<&'static str> {
    // The executable's own modules are parts of its main.
    let module = if BINARY.contains(&file) { "main" } else { file.trim_end_matches(".rs").trim_end_matches("/mod") };
    let fits = |name: &&str| module == *name || module.starts_with(&format!("{name}/"));
    ARROWS.iter().map(|(name, _)| *name).filter(fits).max_by_key(|name| name.len())
}

/// Paths after `crate::` (or `orch::` in the binary), as module names: `crate::{api::Key, server::store}` gives both.
fn uses(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    for root in ["crate::", "orch::"] {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') || code[..at].ends_with("pub(in ") {
                continue;
            }
            expand(&code[at + root.len()..], "", &mut found);
        }
    }
    found
}

/// Follows one path of a use tree.
fn expand(tree: &str, prefix: &str, found: &mut BTreeSet<String>) {
    let tree = tree.trim_start();
    if let Some(inner) = tree.strip_prefix('{') {
        let (mut depth, mut start) = (0, 0);
        for (at, c) in inner.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => return expand(&inner[start..at], prefix, found),
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    expand(&inner[start..at], prefix, found);
                    start = at + 1;
                }
                _ => {}
            }
        }
        return;
    }
    let end = tree.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(tree.len());
    let (name, rest) = tree.split_at(end);
    if name.is_empty() || !name.starts_with(char::is_lowercase) {
        found.insert(prefix.to_string());
        return;
    }
    let path = if prefix.is_empty() { name.to_string() } else { format!("{prefix}/{name}") };
    match rest.strip_prefix("::") {
        Some(rest) => expand(rest, &path, found),
        None => drop(found.insert(path)),
    }
}

fn allowed(from: &str, to: &str) -> bool {
    let below = |name: &str| to == name || to.starts_with(&format!("{name}/"));
    // Within itself, and up to the folder it lies in only where the table says so.
    let arrows = ARROWS.iter().find(|(name, _)| *name == from).map_or(&[][..], |(_, arrows)| arrows);
    below(from) || arrows.iter().any(|name| below(name))
}

#[test]
fn modules_import_only_what_the_map_allows() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let Some(from) = owner(&file) else {
            if file != "lib.rs" {
                wrong.push(format!("{file} is in no module of the map"));
            }
            continue;
        };
        for to in uses(&text).iter().filter(|to| !to.is_empty()) {
            let ours = ARROWS.iter().any(|(name, _)| to == name || to.starts_with(&format!("{name}/")));
            if ours && !allowed(from, to) {
                wrong.push(format!("{file} uses {to}, which {from} may not"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_is_where_it_belongs() {
    for (file, text) in sources() {
        let code = text.lines().map(str::trim_start).filter(|line| !line.starts_with("//"));
        let has =
            code.into_iter().any(|line| line.contains("unsafe {") || line.contains("unsafe fn") || line.contains("allow(unsafe_code)"));
        assert!(!has || UNSAFE.contains(&file.as_str()), "{file} has unsafe code; it belongs into one of {UNSAFE:?}");
    }
}

#[test]
fn modules_say_what_they_are() {
    for (file, text) in sources() {
        assert!(text.starts_with("//!"), "{file} does not begin with its purpose (`//!`)");
    }
}

#[test]
fn the_reader_of_imports_reads() {
    let text = "use crate::api::{Key, selector::LabelSelector};\nuse crate::{net, server::store::Store};\nlet x = crate::client::get();\n// crate::agent";
    let expected = ["api", "api/selector", "client/get", "net", "server/store"];
    assert_eq!(uses(text).into_iter().collect::<Vec<_>>(), expected);
    assert_eq!(owner("server/registry/strategy.rs"), Some("server/registry/strategy"));
    assert_eq!(owner("server/http/mod.rs"), Some("server/http"));
    assert!(!allowed("agent", "server/store") && !allowed("server/store", "server/registry") && allowed("server", "server/http"));
}
