//! The instructions of a loaded program as the kernel runs them, after the verifier has taken out what can
//! never be reached.

use std::os::fd::{AsRawFd, BorrowedFd};

/// `BPF_OBJ_GET_INFO_BY_FD` (`<linux/bpf.h>`).
const INFO: libc::c_long = 15;
/// Bytes of an instruction.
const INSTRUCTION: usize = 8;
/// `ld_imm64` of a map: the first of its two instructions has the map's id.
const LOAD: u8 = 0x18;
const OF_MAP: u8 = 1;

/// `bpf_attr.info`.
#[repr(C)]
struct Attr {
    fd: u32,
    len: u32,
    info: u64,
}

/// `bpf_prog_info`, as far as it is needed.
#[repr(C)]
#[derive(Default)]
struct Info {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    jited_len: u32,
    xlated_len: u32,
    jited: u64,
    xlated: u64,
}

fn info(program: BorrowedFd<'_>, info: &mut Info) {
    let mut attr = Attr {
        fd: program.as_raw_fd().cast_unsigned(),
        len: size_of::<Info>() as u32,
        info: std::ptr::from_mut(info) as u64,
    };
    // SAFETY: `attr` is a `bpf_attr` of the size given, `info` has the length it says, and where it asks
    // for instructions there is room for as many as it says.
    let rc = unsafe { libc::syscall(libc::SYS_bpf, INFO, &raw mut attr, size_of::<Attr>()) };
    assert_eq!(rc, 0, "{}", std::io::Error::last_os_error());
}

/// The instructions, 8 bytes each.
pub fn code(program: BorrowedFd<'_>) -> Vec<[u8; INSTRUCTION]> {
    let mut size = Info::default();
    info(program, &mut size);
    let mut code = vec![[0; INSTRUCTION]; size.xlated_len as usize / INSTRUCTION];
    let mut all = Info {
        xlated_len: size.xlated_len,
        xlated: code.as_mut_ptr() as u64,
        ..Info::default()
    };
    info(program, &mut all);
    assert_ne!(all.xlated, 0, "the kernel shows no instructions");
    code
}

/// Ids of the maps that instructions name, in order.
pub fn maps_of(code: &[[u8; INSTRUCTION]]) -> Vec<u32> {
    let of_map = |i: &&[u8; INSTRUCTION]| i[0] == LOAD && i[1] >> 4 == OF_MAP;
    let id = |i: &[u8; INSTRUCTION]| u32::from_ne_bytes([i[4], i[5], i[6], i[7]]);
    code.iter().filter(of_map).map(id).collect()
}
