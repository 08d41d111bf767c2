//! Point-to-point links whose other end is this program.
//!
//! Why the one call by hand: the crates that make such devices bring a dozen others for
//! platforms and addresses that are no concern here.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;

use nix::libc;

nix::ioctl_write_ptr_bad!(
    /// Makes the link of an opened clone device, `TUNSETIFF`.
    set_interface,
    nix::request_code_write!(b'T', 202, size_of::<libc::c_int>()),
    libc::ifreq
);

/// A link in the network namespace of the thread that made it; it goes with the last clone.
#[derive(Debug)]
pub struct Tun(File);

impl Tun {
    /// Makes link `name`, which is down and has no address.
    #[expect(unsafe_code, reason = "the kernel reads the request that is built here")]
    pub fn make(name: &str) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
        // SAFETY: all zero is a request without a name and without flags.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        let place = &mut request.ifr_name;
        // One byte stays zero: the name's end.
        if name.is_empty() || name.len() >= place.len() {
            let reason = format!("{name:?} is no name of a link");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        for (to, from) in place.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        // Bare packets, without a header of the device.
        request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
        // SAFETY: the request lives for the call, and the kernel only reads it.
        unsafe { set_interface(file.as_raw_fd(), &raw const request) }?;
        Ok(Self(file))
    }

    /// Another handle of the same link.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Waits for a packet that the kernel sends out of the link.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(buffer)
    }

    /// Gives the kernel a packet as if it came in by the link.
    pub fn send(&self, packet: &[u8]) -> io::Result<()> {
        (&self.0).write(packet).map(drop)
    }
}
