//! Other programs than the daemon's own: recorded ones, such as no kernel takes, and what another generation left.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use netd::datapath::{GENERATION, INSTEAD, LAYOUTS, OBJECT};
use netd_tests::both_modes;
use netd_tests::lab::{AttachMode, Lab, process};
use nix::sys::signal::Signal;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};

/// The programs of a former build, with the layouts of this generation.
pub fn recorded() -> Result<PathBuf> {
    let name = format!("../tests/fixtures/{GENERATION}.o");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let anew = || format!("{}: `cargo xtask record programs` makes it", path.display());
    let bytes = fs::read(&path).with_context(anew)?;
    for (name, key, value) in LAYOUTS {
        // `bpf_map_def`: type, sizes of key and value.
        let at = place(&bytes, name).with_context(anew)?;
        let word = |n: usize| {
            let word = bytes.get(at + 4 * n..)?.first_chunk()?;
            Some(u32::from_ne_bytes(*word))
        };
        let sizes = (word(1), word(2));
        ensure!(
            sizes == (Some(key), Some(value)),
            "{name} has other sizes there; {}",
            anew()
        );
    }
    Ok(path.canonicalize()?)
}

/// Where a program or a map begins in an object.
fn place(bytes: &[u8], name: &str) -> Result<usize> {
    let file = object::File::parse(bytes)?;
    let symbol = file.symbol_by_name(name);
    let symbol = symbol.with_context(|| format!("there is no {name}"))?;
    let section = symbol.section_index().context("it is nowhere")?;
    let (at, _) = file
        .section_by_index(section)?
        .file_range()
        .context("it has no bytes")?;
    Ok(usize::try_from(at + symbol.address())?)
}

/// Has the next start of the daemon load these programs; none: its own.
pub fn load(lab: &Lab, programs: Option<PathBuf>) {
    lab.node.reconfigure(|o| {
        o.env.retain(|(name, _)| name != INSTEAD);
        let path = programs.map(|p| (INSTEAD.into(), p.display().to_string()));
        o.env.extend(path);
    });
}

/// The daemon's own programs, but one ends before it has an answer: no verifier lets that pass.
fn refused(lab: &Lab, program: &str) -> Result<PathBuf> {
    const EXIT: [u8; 8] = [0x95, 0, 0, 0, 0, 0, 0, 0];
    let mut bytes = OBJECT.to_vec();
    let at = place(OBJECT, program)?;
    bytes
        .get_mut(at..at + EXIT.len())
        .context("it is short")?
        .copy_from_slice(&EXIT);
    let path = lab.dir().join("refused.o");
    fs::write(&path, bytes)?;
    Ok(path)
}

/// What a start of the daemon says that must fail, on one line.
fn fails_to_start(lab: &Lab) -> Result<String> {
    let said = process::run(&mut lab.node.daemon_command()?)?;
    ensure!(said.code == Some(1), "{said:?}");
    let errors: Vec<&str> = said
        .stderr
        .lines()
        .filter(|l| !l.contains("INFO"))
        .collect();
    ensure!(errors.len() == 1, "{said:?}");
    Ok(errors.concat())
}

/// A daemon that cannot start changes nothing, and what it should have followed works on.
fn changes_nothing(
    lab: &Lab,
    prepare: impl FnOnce() -> Result<()>,
    expected: &[&str],
) -> Result<()> {
    let hooks = || lab.node.ok("bpftool", &["net", "show"]);
    let web = lab.network("web")?;
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &web)?);
    lab.publish("a", "8080:80")?;
    let works = || -> Result<()> {
        a.ping(b.v6())?;
        a.tcp_source_seen_by(&lab.outside, 9001)?;
        let _server = a.serve_source(netd_tests::lab::Proto::Tcp, 80)?;
        for from in [&lab.outside, &*lab.node] {
            let to = (lab.node.v4(), 8080).into();
            from.ask_source(netd_tests::lab::Proto::Tcp, to)?;
        }
        Ok(())
    };
    works()?;
    lab.node.stop(Signal::SIGKILL)?;
    prepare()?;
    let before = hooks().ok();
    let said = fails_to_start(lab)?;
    for words in expected {
        ensure!(said.contains(words), "{words:?} is not in {said}");
    }
    ensure!(hooks().ok() == before, "other programs are hooked now");
    works()
}

fn a_program_that_the_kernel_refuses_leaves_those_of_before(mode: AttachMode) -> Result<()> {
    for program in ["netd_up_new", "netd_sock_conn4"] {
        let lab = Lab::builder("refused").attach_mode(mode).build()?;
        let prepare = || {
            load(&lab, Some(refused(&lab, program)?));
            Ok(())
        };
        let line = format!("program {program} was refused by the kernel");
        let goes_on = "the programs that are hooked stay, and traffic goes on";
        changes_nothing(&lab, prepare, &[&line, goes_on])?;
        load(&lab, None);
        lab.node.start()?;
    }
    Ok(())
}

fn what_another_generation_has_pinned_is_left_alone(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("generation", mode)?;
    let (here, other) = (
        lab.node.bpf_dir().join(GENERATION),
        lab.node.bpf_dir().join("g1"),
    );
    let prepare = || Ok(fs::rename(&here, &other)?);
    changes_nothing(
        &lab,
        prepare,
        &["generation g1", GENERATION, "cleanup --force"],
    )?;
    ensure!(!here.exists(), "a directory was made");
    fs::rename(&other, &here)?;
    lab.node.start()?;
    // And it can be removed without the daemon that made it.
    lab.node.stop(Signal::SIGTERM)?;
    fs::rename(&here, &other)?;
    lab.node.cleanup(&["--force"])?.success()?;
    let filters = lab.node.ok(
        "tc",
        &["filter", "show", "dev", &lab.node.device, "ingress"],
    )?;
    ensure!(filters.trim().is_empty() && !other.exists(), "{filters}");
    Ok(())
}

both_modes! {
    a_program_that_the_kernel_refuses_leaves_those_of_before;
    what_another_generation_has_pinned_is_left_alone;
}
