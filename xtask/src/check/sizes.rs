//! The file-size rule: a Rust file of more than 600 lines is to be split.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};

use crate::workspace;

const MOST_LINES: usize = 600;

/// Fails naming every file that is too long.
pub fn check() -> Result<()> {
    let root = workspace::root();
    let mut long = Vec::new();
    walk(&root, &mut |path| {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let lines = text.lines().count();
        if lines > MOST_LINES {
            let name = path.strip_prefix(&root).unwrap_or(path);
            long.push(format!("{} ({lines} lines)", name.display()));
        }
        Ok(())
    })?;
    if !long.is_empty() {
        bail!(
            "over {MOST_LINES} lines, split by subject: {}",
            long.join(", ")
        );
    }
    Ok(())
}

/// Every Rust file below `dir`, save in hidden and build directories.
fn walk(dir: &Path, each: &mut impl FnMut(&Path) -> Result<()>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let entry = entry.with_context(|| format!("cannot list {}", dir.display()))?;
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.')
            || path == workspace::target()
            || (name == "target" && path.join("CACHEDIR.TAG").exists())
        {
            continue;
        }
        if path.is_dir() {
            walk(&path, each)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            each(&path)?;
        }
    }
    Ok(())
}
