//! The machine's consoles: what is said is said on all of them, and any of them answers.
//!
//! Why all: a server in a rack has a screen behind its BMC and a serial line behind another
//! machine, and nobody knows at which of them somebody looks.
//! Invariant: only a line that somebody ended is an answer; a console that hangs up is none.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{FlushArg, tcflush};

/// Until consoles are looked at again of which one had something to tell, but no line.
const PAUSE: Duration = Duration::from_millis(500);

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

    /// Discards what was typed so far: it cannot be meant for a question that comes now.
    pub fn discard_typed(&self) {
        for terminal in &self.terminals {
            let _gone = tcflush(terminal, FlushArg::TCIFLUSH);
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
                // The longest line of a terminal, which hands over whole ones; with a hang-up or
                // Ctrl-D no line ends. One that is gone takes nothing from the others.
                let mut buffer = [0; 4096];
                let got = terminal.read(&mut buffer).unwrap_or_default();
                if buffer[..got].ends_with(b"\n") {
                    return Ok(String::from_utf8_lossy(&buffer[..got]).trim().to_owned());
                }
            }
            // A console that hung up has something to tell all the time.
            std::thread::park_timeout(PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::pty::openpty;

    use super::*;

    /// A keyboard and the terminal that it types at.
    fn terminal() -> (File, File) {
        let pair = openpty(None, None).unwrap();
        (File::from(pair.master), File::from(pair.slave))
    }

    #[test]
    fn neither_a_hang_up_nor_an_end_of_file_is_an_answer() {
        let (gone, hung_up) = terminal();
        let (mut keyboard, terminal) = terminal();
        drop(gone);
        let console = Console { terminals: vec![hung_up, terminal] };
        // Ctrl-D without and with something before it, then a line.
        keyboard.write_all(b"\x04of\x04off\n").unwrap();
        assert_eq!(console.answer().unwrap(), "off");
        keyboard.write_all(b"\n").unwrap();
        assert_eq!(console.answer().unwrap(), "");
    }

    #[test]
    fn what_was_typed_before_the_question_is_no_answer() {
        let (mut keyboard, terminal) = terminal();
        let console = Console { terminals: vec![terminal] };
        keyboard.write_all(b"early\n").unwrap();
        let mut arrived = [PollFd::new(console.terminals[0].as_fd(), PollFlags::POLLIN)];
        poll(&mut arrived, PollTimeout::NONE).unwrap();
        console.discard_typed();
        keyboard.write_all(b"late\n").unwrap();
        assert_eq!(console.answer().unwrap(), "late");
    }
}
