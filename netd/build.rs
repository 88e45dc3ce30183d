//! Builds `netd-ebpf` for the BPF target and hands the object to the crate as `NETD_EBPF_OBJECT`.
//!
//! The tool chain is the one `cargo xtask setup` chose (`target/xtask/toolchain.toml`), else rustup's
//! nightly. `NETD_EBPF_OBJECT=path` in the environment takes a ready object instead.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const HINT: &str = "run `cargo xtask setup`, or give a ready object with NETD_EBPF_OBJECT=path";

fn main() {
    println!("cargo:rerun-if-env-changed=NETD_EBPF_OBJECT");
    let object = match env::var_os("NETD_EBPF_OBJECT") {
        Some(path) => ready(Path::new(&path)),
        None => build(),
    };
    match object {
        Ok(path) => println!("cargo:rustc-env=NETD_EBPF_OBJECT={}", path.display()),
        Err(why) => {
            eprintln!("netd: the eBPF object was not built: {why}; {HINT}");
            std::process::exit(1);
        }
    }
}

fn ready(path: &Path) -> Result<PathBuf, String> {
    println!("cargo:rerun-if-changed={}", path.display());
    path.canonicalize()
        .map_err(|e| format!("NETD_EBPF_OBJECT={}: {e}", path.display()))
}

fn build() -> Result<PathBuf, String> {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("no manifest directory")?);
    let root = manifest.parent().ok_or("no workspace")?.to_path_buf();
    for input in [
        "netd-ebpf",
        "netd-common/src",
        "netd-common/Cargo.toml",
        "Cargo.lock",
    ] {
        println!("cargo:rerun-if-changed={}", root.join(input).display());
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("no output directory")?);
    let tools = Toolchain::find(&out);
    // A target directory of its own: cargo holds a lock on the one this build runs in.
    let target = out.join("ebpf");
    let mut cargo = Command::new(&tools.cargo);
    cargo
        .args([
            "build",
            "--package",
            "netd-ebpf",
            "--bins",
            "--release",
            "--locked",
        ])
        .args([
            "--target",
            "bpfel-unknown-none",
            "-Z",
            "build-std=core",
            "--target-dir",
        ])
        .arg(&target)
        .current_dir(&root)
        .env("RUSTC", &tools.rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            "--cfg=bpf_target_arch=\"x86_64\"\u{1f}-Cdebuginfo=2\u{1f}-Clink-arg=--btf",
        );
    for name in [
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTUP_TOOLCHAIN",
        "RUSTFLAGS",
        "CARGO_BUILD_TARGET",
    ] {
        cargo.env_remove(name);
    }
    let done = cargo
        .output()
        .map_err(|e| format!("{} did not start: {e}", tools.cargo.display()))?;
    if !done.status.success() {
        let text = String::from_utf8_lossy(&done.stderr);
        eprintln!("{text}");
        let line = text
            .lines()
            .find(|l| l.starts_with("error"))
            .unwrap_or("cargo failed");
        return Err(line.to_string());
    }
    let built = target.join("bpfel-unknown-none/release/netd");
    let object = out.join("netd.bpf.o");
    fs::copy(&built, &object).map_err(|e| format!("{}: {e}", built.display()))?;
    Ok(object)
}

/// The compiler and cargo that can build for the BPF target.
struct Toolchain {
    rustc: PathBuf,
    cargo: PathBuf,
}

impl Toolchain {
    fn find(out: &Path) -> Self {
        // OUT_DIR is TARGET/PROFILE/build/netd-HASH/out, one level deeper with --target.
        let chosen = out
            .ancestors()
            .map(|dir| dir.join("xtask/toolchain.toml"))
            .find(|p| p.is_file());
        if let Some(path) = chosen {
            println!("cargo:rerun-if-changed={}", path.display());
            let text = fs::read_to_string(&path).unwrap_or_default();
            if let (Some(rustc), Some(cargo)) = (value(&text, "rustc"), value(&text, "cargo")) {
                return Self { rustc, cargo };
            }
        }
        let nightly = |tool: &str| {
            let out = Command::new("rustup")
                .args(["which", "--toolchain", "nightly", tool])
                .output()
                .ok()?;
            let path = String::from_utf8(out.stdout).ok()?;
            out.status.success().then(|| PathBuf::from(path.trim()))
        };
        Self {
            rustc: nightly("rustc").unwrap_or_else(|| "rustc".into()),
            cargo: nightly("cargo").unwrap_or_else(|| "cargo".into()),
        }
    }
}

/// `key = "value"` of a flat TOML file.
fn value(text: &str, key: &str) -> Option<PathBuf> {
    text.lines().find_map(|line| {
        let (k, v) = line.split_once('=')?;
        (k.trim() == key).then(|| PathBuf::from(v.trim().trim_matches('"')))
    })
}
