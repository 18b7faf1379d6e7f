//! Opening TUN devices.
//!
//! A device hands over whole IPv4 packets, each behind a 10-byte `virtio_net_hdr` in little-endian order.
//! With the offloads on, the kernel gives TCP super-packets of up to 64 KiB with unfinished checksums
//! and takes the same: one system call moves what would be 40 packets at MTU 1500.

use std::{
    ffi::CString,
    fs::{File, OpenOptions},
    io,
    os::{
        fd::{AsRawFd, IntoRawFd, RawFd},
        unix::fs::OpenOptionsExt,
    },
};

use crate::errno::{Errno, Result, check};

/// Length of the header before every packet, in bytes.
pub const HEADER_LENGTH: i32 = 10;

const DEVICE: &str = "/dev/net/tun";
/// Longest name of a network device, without the final NUL.
const NAME_LIMIT: usize = libc::IFNAMSIZ - 1;

/// Why a device could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The kernel has no TUN driver, or the device node is missing.
    Missing,
    /// `/dev/net/tun` or the device may not be used by this user.
    Permission,
    /// Another process, or a device of another kind, has the name.
    Busy,
    /// Anything else.
    Failed,
}

/// A failure with a sentence for the operator about what to do.
#[derive(Clone, Debug)]
pub struct TunError {
    pub cause: Cause,
    pub errno: Errno,
    pub message: String,
    pub hint: String,
}

/// Opens the TUN device `name` in the network namespace of this thread, and creates it when there is none.
/// It disappears when the descriptor is closed unless it was made persistent before.
///
/// The descriptor is non-blocking and close-on-exec. Setting addresses and bringing the link up is left to the caller.
///
/// # Errors
/// See [`Cause`].
pub fn open(name: &str) -> std::result::Result<RawFd, TunError> {
    check_name(name)?;
    let file = open_driver()?;
    attach(&file, name).map_err(|errno| attach_error(name, errno))?;
    set_up(&file).map_err(|errno| TunError {
        cause: Cause::Failed,
        errno,
        message: format!("cannot turn on offloads of the TUN device {name}: {}", text(errno)),
        hint: "use a Linux kernel whose TUN driver has virtio headers and offloads (TUNSETVNETHDRSZ, TUNSETVNETLE, TUNSETOFFLOAD)".into(),
    })?;
    Ok(file.into_raw_fd())
}

fn check_name(name: &str) -> std::result::Result<(), TunError> {
    let problem = if name.is_empty() {
        "is empty"
    } else if name.len() > NAME_LIMIT {
        "is too long"
    } else if name == "." || name == ".." || name.contains(['/', ':', '%', '\0']) || name.contains(char::is_whitespace)
    {
        "has characters a device name cannot have"
    } else {
        return Ok(());
    };
    Err(TunError {
        cause: Cause::Failed,
        errno: Errno::INVALID,
        message: format!("the TUN device name {name:?} {problem}"),
        hint: format!("choose a name of 1 to {NAME_LIMIT} bytes without spaces, '/', ':' and '%'"),
    })
}

fn open_driver() -> std::result::Result<File, TunError> {
    let opened =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(DEVICE);
    opened.map_err(|error| {
        let errno = Errno(error.raw_os_error().unwrap_or(libc::EIO));
        let (cause, hint) = match errno.0 {
            libc::ENOENT | libc::ENOTDIR | libc::ENODEV | libc::ENXIO => (
                Cause::Missing,
                "load the driver with `modprobe tun`; in a container pass the device in (for example `--device /dev/net/tun`), \
                 or make it with `mkdir -p /dev/net && mknod /dev/net/tun c 10 200`",
            ),
            libc::EACCES | libc::EPERM => (
                Cause::Permission,
                "run as root, or let this user read and write /dev/net/tun (`chmod 0666 /dev/net/tun`; in a container \
                 the device must also be allowed)",
            ),
            libc::EMFILE | libc::ENFILE => (Cause::Failed, "raise the limit of open files (`ulimit -n`)"),
            _ => (Cause::Failed, "see the kernel log (`dmesg`) about the tun driver"),
        };
        TunError { cause, errno, message: format!("cannot open {DEVICE}: {}", text(errno)), hint: hint.into() }
    })
}

/// `TUNSETIFF`: makes the open driver file the device `name`.
fn attach(file: &File, name: &str) -> Result<()> {
    // SAFETY: `ifreq` is plain data for which all zeroes is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.as_bytes()) {
        // `c_char` is signed on x64 and unsigned on arm64.
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    #[allow(clippy::cast_possible_truncation)] // the flags are 16 bits in the kernel too
    let flags = (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
    request.ifr_ifru.ifru_flags = flags;
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, which is owned for the call. The name ends in a NUL
    // because it is shorter than the field.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) }).map(drop)
}

fn set_up(file: &File) -> Result<()> {
    let header: libc::c_int = HEADER_LENGTH;
    let little_endian: libc::c_int = 1;
    let offloads = libc::TUN_F_CSUM | libc::TUN_F_TSO4;
    let fd = file.as_raw_fd();
    // SAFETY: TUNSETVNETHDRSZ reads one int, which is owned for the call.
    check(unsafe { libc::ioctl(fd, libc::TUNSETVNETHDRSZ, &raw const header) })?;
    // SAFETY: TUNSETVNETLE reads one int, which is owned for the call.
    check(unsafe { libc::ioctl(fd, libc::TUNSETVNETLE, &raw const little_endian) })?;
    // SAFETY: TUNSETOFFLOAD takes the flags as its argument, by value.
    check(unsafe { libc::ioctl(fd, libc::TUNSETOFFLOAD, libc::c_ulong::from(offloads)) })?;
    Ok(())
}

fn attach_error(name: &str, errno: Errno) -> TunError {
    let in_use = errno.0 == libc::EBUSY || (errno.0 == libc::EINVAL && exists(name));
    let (cause, hint) = if in_use {
        (
            Cause::Busy,
            format!(
                "another process has the device open, or it is of another kind: look with `ip -details link show {name}`, \
                 end that process, or choose another name"
            ),
        )
    } else if errno.0 == libc::EPERM || errno.0 == libc::EACCES {
        (
            Cause::Permission,
            format!(
                "run as root or with CAP_NET_ADMIN in this network namespace, or let root make the device first: \
                 `ip tuntap add dev {name} mode tun vnet_hdr user $USER`"
            ),
        )
    } else {
        (Cause::Failed, "see the kernel log (`dmesg`) about the tun driver".into())
    };
    TunError { cause, errno, message: format!("cannot attach to the TUN device {name}: {}", text(errno)), hint }
}

fn exists(name: &str) -> bool {
    // SAFETY: the name is a NUL-terminated string that outlives the call.
    CString::new(name).is_ok_and(|name| unsafe { libc::if_nametoindex(name.as_ptr()) } != 0)
}

fn text(errno: Errno) -> String {
    io::Error::from_raw_os_error(errno.0).to_string()
}
