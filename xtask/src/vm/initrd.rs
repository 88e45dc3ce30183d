//! The guest's whole file system: busybox, netd, the lab and its tools with the shared libraries
//! they need, the packet suite, kernel modules and the init script; packed as a cpio archive.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, bail};

use super::{
    guest::{self, Check},
    kernel::{Kernel, Tree},
    modules,
};
use crate::{exec, setup, test::binaries::TestBinary, workspace};

/// Suites whose name begins so only need loaded programs, no long-lived topology: they run in the
/// guest too.
const PACKET_SUITES: &str = "packet";
/// iptables loads its matches and targets from here.
const XTABLES: &str = "/usr/lib/x86_64-linux-gnu/xtables";

/// The programs that go into the guest.
pub struct Programs {
    /// Host path and path in the guest.
    tools: Vec<(PathBuf, String)>,
    suites: Vec<(PathBuf, String)>,
    libraries: BTreeSet<PathBuf>,
}

impl Programs {
    /// Collects the tools, netd, the lab and the packet suites, and the libraries of all of them.
    pub fn new(suites: &[TestBinary]) -> Result<Self> {
        let mut tools: Vec<(PathBuf, String)> = Vec::new();
        for name in setup::lab_programs() {
            let path = workspace::which(name).with_context(|| format!("`{name}` vanished"))?;
            tools.push((path, format!("usr/bin/{name}")));
        }
        // Not busybox's shell: that one takes its own `ip` and `ping` before any on the search path.
        tools.push((PathBuf::from("/bin/sh"), "bin/sh".to_owned()));
        for name in ["netd", "netd-lab"] {
            tools.push((workspace::release_binary(name), format!("usr/bin/{name}")));
        }
        let suites: Vec<(PathBuf, String)> = suites
            .iter()
            .filter_map(|binary| Some((binary.path.clone(), binary.suite.clone()?)))
            .filter(|(_, suite)| suite.starts_with(PACKET_SUITES))
            .collect();
        if suites.is_empty() {
            bail!("netd-tests has no suite whose name begins with `{PACKET_SUITES}`");
        }
        let mut libraries = BTreeSet::new();
        for (path, _) in tools.iter().chain(&suites) {
            libraries.extend(libraries_of(path)?);
        }
        Ok(Self {
            tools,
            suites,
            libraries,
        })
    }

    /// Names of the packet suites.
    pub fn suites(&self) -> impl Iterator<Item = &str> {
        self.suites.iter().map(|(_, suite)| suite.as_str())
    }
}

/// Packs the initrd for one kernel; returns its path.
pub fn build(
    kernel: &Kernel,
    tree: &Tree,
    programs: &Programs,
    checks: &[Check],
) -> Result<PathBuf> {
    let vm = workspace::target().join("vm");
    let root = Root::new(vm.join("root"))?;

    let busybox = workspace::which("busybox").context("`busybox` vanished")?;
    if !libraries_of(&busybox)?.is_empty() {
        bail!(
            "{} is not the static one: `apt-get install busybox-static`",
            busybox.display()
        );
    }
    root.copy(&busybox, "bin/busybox")?;
    for (from, to) in &programs.tools {
        root.copy(from, to)?;
    }
    for (from, suite) in &programs.suites {
        root.strip(from, &format!("{}/{suite}", guest::SUITES))?;
    }
    for library in &programs.libraries {
        root.copy(library, &library.to_string_lossy())?;
    }
    for plugin in fs::read_dir(XTABLES).into_iter().flatten().flatten() {
        let plugin = plugin.path();
        if plugin.is_file() {
            root.copy(&plugin, &plugin.to_string_lossy())?;
        }
    }
    // tcpdump gives up root for a user of its own.
    root.write(
        "etc/passwd",
        b"root:x:0:0:root:/root:/bin/sh\ntcpdump:x:100:100::/tmp:/bin/false\n",
    )?;
    root.write("etc/group", b"root:x:0:\ntcpdump:x:100:\n")?;
    root.write("etc/hosts", b"127.0.0.1 localhost\n::1 localhost\n")?;
    for file in ["/etc/protocols", "/etc/services", "/etc/iproute2/rt_tables"] {
        if Path::new(file).is_file() {
            root.copy(Path::new(file), file)?;
        }
    }
    let modules = modules::load_order(tree)?;
    for module in &modules {
        root.write(
            &format!("{}/{}.ko", guest::MODULES, module.name),
            &module.content,
        )?;
    }
    root.write("init", guest::init(&modules, checks).as_bytes())?;
    fs::set_permissions(root.path("init"), fs::Permissions::from_mode(0o755))
        .context("cannot make init executable")?;

    let archive = vm.join(format!("{}.cpio", kernel.version));
    root.pack(&archive)?;
    Ok(archive)
}

/// The directory that becomes the archive; removed when done with.
struct Root(PathBuf);

impl Root {
    fn new(dir: PathBuf) -> Result<Self> {
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
        }
        fs::create_dir_all(dir.join("bin"))
            .with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Self(dir))
    }

    /// A path of the guest in the directory.
    fn path(&self, guest: &str) -> PathBuf {
        self.0.join(guest.trim_start_matches('/'))
    }

    fn place(&self, guest: &str) -> Result<PathBuf> {
        let path = self.path(guest);
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        Ok(path)
    }

    fn copy(&self, from: &Path, guest: &str) -> Result<()> {
        // Links are followed: alternatives and versioned libraries become plain files.
        fs::copy(from, self.place(guest)?)
            .with_context(|| format!("cannot copy {}", from.display()))?;
        Ok(())
    }

    /// Copies without symbols: they are most of a test binary, and all of the archive is memory.
    fn strip(&self, from: &Path, guest: &str) -> Result<()> {
        let to = self.place(guest)?;
        exec::capture(exec::command("strip").arg("-o").arg(&to).arg(from)).map(drop)
    }

    fn write(&self, guest: &str, content: &[u8]) -> Result<()> {
        let path = self.place(guest)?;
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
    }

    fn pack(&self, archive: &Path) -> Result<()> {
        let file =
            File::create(archive).with_context(|| format!("cannot write {}", archive.display()))?;
        let mut find = exec::command("find")
            .current_dir(&self.0)
            .arg(".")
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start find")?;
        let names = find.stdout.take().context("find has no output")?;
        let mut cpio = exec::command("cpio");
        cpio.current_dir(&self.0)
            .args(["--quiet", "-o", "-H", "newc", "-R", "0:0"])
            .stdin(names)
            .stdout(file);
        exec::run(&mut cpio)?;
        if !find.wait().context("lost find")?.success() {
            bail!("cannot list {}", self.0.display());
        }
        Ok(())
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // Only space is lost when this fails, and the next run removes it first.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The shared libraries of a program, its loader included; none for a static one.
fn libraries_of(program: &Path) -> Result<Vec<PathBuf>> {
    // ldd fails for static programs, saying "not a dynamic executable".
    let output = exec::command("ldd")
        .arg(program)
        .output()
        .context("cannot start ldd")?;
    let said = String::from_utf8_lossy(&output.stdout);
    libraries_in(&said).with_context(|| format!("{} would not start", program.display()))
}

/// Reads ldd's lines: `NAME => PATH (ADDRESS)`, `PATH (ADDRESS)`, or a NAME the kernel provides.
fn libraries_in(said: &str) -> Result<Vec<PathBuf>> {
    let mut libraries = Vec::new();
    for line in said.lines().map(str::trim) {
        if let Some(name) = line.strip_suffix(" => not found") {
            bail!("its library {name} is not installed");
        }
        let path = line.split_once(" => ").map_or(line, |(_, path)| path);
        let path = path.split(" (").next().unwrap_or(path);
        if path.starts_with('/') {
            libraries.push(PathBuf::from(path));
        }
    }
    Ok(libraries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_loader_are_read_from_ldd() {
        let said = "\tlinux-vdso.so.1 (0x00007ffc)\n\
                    \tlibelf.so.1 => /lib/x86_64-linux-gnu/libelf.so.1 (0x00007f1)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f2)\n";
        let expected = [
            "/lib/x86_64-linux-gnu/libelf.so.1",
            "/lib64/ld-linux-x86-64.so.2",
        ]
        .map(PathBuf::from);
        assert_eq!(libraries_in(said).unwrap(), expected);
    }

    #[test]
    fn a_static_program_has_none_and_a_missing_library_is_named() {
        assert!(libraries_in("\tstatically linked\n").unwrap().is_empty());
        let error = libraries_in("\tlibx.so.1 => not found\n").unwrap_err();
        assert!(error.to_string().contains("libx.so.1"), "{error}");
    }
}
