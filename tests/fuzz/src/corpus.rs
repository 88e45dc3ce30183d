//! Inputs that are kept: `corpus/*.txt`, a case on each line, above it `#` lines that say what it is.
//! They run before anything random. Failing inputs are written in the same form below `target/fuzz`, from
//! where a developer moves them here.

use std::fs;
use std::path::{Path, PathBuf};

use crate::case::Case;

/// A case that is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    /// What the lines above it say.
    pub why: String,
    /// The case.
    pub case: Case,
}

/// The directory of the corpus.
pub fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// Everything that is kept, in the order of the files' names.
pub fn load() -> Result<Vec<Kept>, String> {
    let dir = dir();
    let wrong = |what: &Path, e: &dyn std::fmt::Display| format!("{}: {e}", what.display());
    let entries = fs::read_dir(&dir).map_err(|e| wrong(&dir, &e))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "txt"));
    files.sort();
    let mut kept = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).map_err(|e| wrong(&file, &e))?;
        kept.extend(parse(&text).map_err(|e| wrong(&file, &e))?);
    }
    Ok(kept)
}

/// The cases of one file.
pub fn parse(text: &str) -> Result<Vec<Kept>, String> {
    let (mut kept, mut why) = (Vec::new(), String::new());
    for (n, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() {
            why.clear();
        } else if let Some(words) = line.strip_prefix('#') {
            if !why.is_empty() {
                why.push(' ');
            }
            why.push_str(words.trim());
        } else {
            let case = line.parse().map_err(|e| format!("line {}: {e}", n + 1))?;
            let why = why.clone();
            kept.push(Kept { why, case });
        }
    }
    Ok(kept)
}

/// Writes a failing input where a developer finds it; answers where.
pub fn write(name: &str, why: &str, line: &str) -> String {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
        PathBuf::from,
    );
    let dir = target.join("fuzz");
    let file = dir.join(format!("{name}.txt"));
    let comment: Vec<String> = why.lines().map(|line| format!("# {line}")).collect();
    let text = format!("{}\n{line}\n", comment.join("\n"));
    match fs::create_dir_all(&dir).and_then(|()| fs::write(&file, text)) {
        Ok(()) => format!("{} (move it to {})", file.display(), self::dir().display()),
        Err(e) => format!("not written to {}: {e}", file.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kept_case_says_what_it_is() {
        let kept = load().expect("the corpus");
        assert!(kept.len() >= 40, "{}", kept.len());
        for k in kept {
            assert!(k.why.len() > 10, "{}", k.case);
        }
    }

    #[test]
    fn comments_belong_to_the_case_below() {
        let kept = parse("# one\n# two\nxdp 0 01\n\nup_in 0 02\n").expect("cases");
        assert_eq!(
            (kept[0].why.as_str(), kept[1].why.as_str()),
            ("one two", "")
        );
        assert_eq!(
            parse("xdp 0"),
            Ok(vec![Kept {
                why: String::new(),
                case: "xdp 0 ".parse().unwrap()
            }])
        );
        assert!(parse("\nxdp").unwrap_err().starts_with("line 2"));
    }
}
