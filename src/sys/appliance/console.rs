//! The machine's consoles: what is said is said on all of them, and any of them answers.
//!
//! Why all: a server in a rack has a screen behind its BMC and a serial line behind another
//! machine, and nobody knows at which of them somebody looks.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// All consoles that the kernel writes to.
#[derive(Debug)]
pub struct Console {
    terminals: Vec<File>,
}

impl Console {
    /// Opens those that can be opened; at least the kernel's own.
    pub fn open() -> io::Result<Self> {
        let active = fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
        let open = |name: &str| File::options().read(true).write(true).open(format!("/dev/{name}"));
        let mut terminals: Vec<File> =
            active.split_whitespace().filter_map(|name| open(name).ok()).collect();
        if terminals.is_empty() {
            terminals.push(open("console")?);
        }
        Ok(Self { terminals })
    }

    /// Writes a line on every console. One that is gone takes nothing from the others.
    pub fn say(&self, line: &str) {
        for mut terminal in &self.terminals {
            let _gone =
                terminal.write_all(line.as_bytes()).and_then(|()| terminal.write_all(b"\n"));
        }
    }

    /// Waits for a line on any console.
    pub fn answer(&self) -> io::Result<String> {
        loop {
            let mut waiting: Vec<PollFd<'_>> = self
                .terminals
                .iter()
                .map(|terminal| PollFd::new(terminal.as_fd(), PollFlags::POLLIN))
                .collect();
            poll(&mut waiting, PollTimeout::NONE)?;
            for (terminal, waited) in self.terminals.iter().zip(&waiting) {
                let ready =
                    waited.revents().is_some_and(|events| events.contains(PollFlags::POLLIN));
                if !ready {
                    continue;
                }
                let mut terminal = terminal;
                let mut buffer = [0; 256];
                // A terminal hands over whole lines.
                let got = terminal.read(&mut buffer)?;
                return Ok(String::from_utf8_lossy(&buffer[..got]).trim().to_owned());
            }
        }
    }
}
