//! A program that is not netd's, hooked behind netd's on a device: counts the packets it sees.
//!
//! Ten instructions loaded with bpf(2) itself, so that it shares no code with netd.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context as _, Result, bail};
use bytemuck::{Pod, Zeroable};
use nix::mount::{MsFlags, mount};

use super::Lab;

/// Which side of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What the device receives.
    Ingress,
    /// What the device sends.
    Egress,
}

/// How the foreign program is hooked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForeignHook {
    /// A TCX link behind those that are there (Linux 6.6 and later).
    Tcx,
    /// A TCX link before all that are there.
    TcxFirst,
    /// A clsact filter of low priority, made by `tc`.
    Clsact,
    /// The same of the highest.
    ClsactFirst,
}

/// The counting program. Dropping it takes it off a TCX hook; a clsact filter stays with its device.
#[derive(Debug)]
pub struct Foreign {
    map: OwnedFd,
    _program: OwnedFd,
    _link: Option<OwnedFd>,
}

impl Foreign {
    /// Hooks a counter on a device of the node.
    pub fn attach(lab: &Lab, device: &str, side: Side, hook: ForeignHook) -> Result<Self> {
        let map = create_map().context("cannot make the foreign program's map")?;
        let program = load(&map).context("cannot load the foreign program")?;
        let node = &lab.node;
        let link = match hook {
            ForeignHook::Tcx => Some(node.ns.enter(|| tcx(&program, device, side, 0))?),
            ForeignHook::TcxFirst => Some(node.ns.enter(|| tcx(&program, device, side, BEFORE))?),
            ForeignHook::Clsact => {
                clsact(lab, &program, device, side, "65000")?;
                None
            }
            ForeignHook::ClsactFirst => {
                clsact(lab, &program, device, side, "1")?;
                None
            }
        };
        Ok(Self {
            map,
            _program: program,
            _link: link,
        })
    }

    /// Packets seen so far.
    pub fn packets(&self) -> Result<u64> {
        let key = 0u32;
        let mut value = 0u64;
        let attr = Element {
            map: self.map.as_raw_fd().cast_unsigned(),
            pad: 0,
            key: (&raw const key) as u64,
            value: (&raw mut value) as u64,
            flags: 0,
        };
        bpf(MAP_LOOKUP_ELEM, &attr)?;
        Ok(value)
    }
}

const MAP_CREATE: libc::c_long = 0;
const MAP_LOOKUP_ELEM: libc::c_long = 1;
const PROG_LOAD: libc::c_long = 5;
const OBJ_PIN: libc::c_long = 6;
const LINK_CREATE: libc::c_long = 28;
const MAP_TYPE_ARRAY: u32 = 2;
const PROG_TYPE_SCHED_CLS: u32 = 3;
const TCX_INGRESS: u32 = 46;
const TCX_EGRESS: u32 = 47;
/// `BPF_F_BEFORE`; relative to nothing: first of all.
const BEFORE: u32 = 1 << 3;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct MapCreate {
    kind: u32,
    key: u32,
    value: u32,
    entries: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Element {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct ProgLoad {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Pin {
    path: u64,
    fd: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct LinkCreate {
    program: u32,
    ifindex: u32,
    attach: u32,
    flags: u32,
    relative: u32,
    pad: u32,
    revision: u64,
}

fn bpf<A: Pod>(command: libc::c_long, attr: &A) -> io::Result<i32> {
    // SAFETY: `attr` is the union member of this command and its size is given; pointers in it
    // are to values that outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attr),
            size_of::<A>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result as i32)
    }
}

fn bpf_fd<A: Pod>(command: libc::c_long, attr: &A) -> io::Result<OwnedFd> {
    let fd = bpf(command, attr)?;
    // SAFETY: the command returned a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn create_map() -> io::Result<OwnedFd> {
    bpf_fd(
        MAP_CREATE,
        &MapCreate {
            kind: MAP_TYPE_ARRAY,
            key: 4,
            value: 8,
            entries: 1,
            flags: 0,
        },
    )
}

/// One instruction: opcode, registers, offset, immediate.
const fn op(code: u8, dst: u64, src: u64, off: i16, imm: i32) -> u64 {
    code as u64
        | dst << 8
        | src << 12
        | (off.cast_unsigned() as u64) << 16
        | (imm.cast_unsigned() as u64) << 32
}

fn load(map: &OwnedFd) -> io::Result<OwnedFd> {
    let program = [
        op(0x62, 10, 0, -4, 0),             // *(u32 *)(r10 - 4) = 0: the key
        op(0xbf, 2, 10, 0, 0),              // r2 = r10
        op(0x07, 2, 0, 0, -4),              // r2 += -4
        op(0x18, 1, 1, 0, map.as_raw_fd()), // r1 = the map
        0,                                  //      (second half)
        op(0x85, 0, 0, 0, 1),               // call map_lookup_elem
        op(0x15, 0, 0, 2, 0),               // if r0 == 0 skip
        op(0xb7, 1, 0, 0, 1),               // r1 = 1
        op(0xdb, 0, 1, 0, 0),               // atomic *(u64 *)r0 += r1
        op(0xb7, 0, 0, 0, -1),              // r0 = TC_ACT_UNSPEC = TCX_NEXT
        op(0x95, 0, 0, 0, 0),               // exit
    ];
    let license = c"GPL";
    bpf_fd(
        PROG_LOAD,
        &ProgLoad {
            kind: PROG_TYPE_SCHED_CLS,
            count: program.len() as u32,
            instructions: program.as_ptr() as u64,
            license: license.as_ptr() as u64,
            log_level: 0,
            log_size: 0,
            log: 0,
            kernel: 0,
            flags: 0,
        },
    )
}

fn tcx(program: &OwnedFd, device: &str, side: Side, flags: u32) -> Result<OwnedFd> {
    let name = std::ffi::CString::new(device)?;
    // SAFETY: `name` is a C string that outlives the call.
    let ifindex = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if ifindex == 0 {
        bail!("there is no device {device}");
    }
    let attach = match side {
        Side::Ingress => TCX_INGRESS,
        Side::Egress => TCX_EGRESS,
    };
    let program = program.as_raw_fd().cast_unsigned();
    bpf_fd(
        LINK_CREATE,
        &LinkCreate {
            program,
            ifindex,
            attach,
            flags,
            relative: 0,
            pad: 0,
            revision: 0,
        },
    )
    .with_context(|| format!("cannot hook the foreign program on {device}"))
}

fn clsact(lab: &Lab, program: &OwnedFd, device: &str, side: Side, priority: &str) -> Result<()> {
    let node = &lab.node;
    let side = match side {
        Side::Ingress => "ingress",
        Side::Egress => "egress",
    };
    let dir = lab.dir().join("foreign");
    if !dir.exists() {
        fs::create_dir(&dir)?;
        mount(
            Some("bpf"),
            &dir,
            Some("bpf"),
            MsFlags::empty(),
            None::<&str>,
        )
        .context("cannot mount a bpffs for the foreign program")?;
    }
    let pin = dir.join(format!("{device}-{side}-{priority}"));
    let path = std::ffi::CString::new(pin.as_os_str().as_encoded_bytes())?;
    bpf(
        OBJ_PIN,
        &Pin {
            path: path.as_ptr() as u64,
            fd: program.as_raw_fd().cast_unsigned(),
            flags: 0,
        },
    )
    .context("cannot pin the foreign program")?;
    // There already in clsact mode: then `tc` says so and that is fine.
    let _ = node.run("tc", &["qdisc", "add", "dev", device, "clsact"])?;
    let pin = pin.display().to_string();
    node.ok(
        "tc",
        &[
            "filter",
            "add",
            "dev",
            device,
            side,
            "pref",
            priority,
            "bpf",
            "direct-action",
            "object-pinned",
            &pin,
        ],
    )?;
    Ok(())
}
