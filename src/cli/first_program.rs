//! The names under which a kernel starts this program, instead of a verb.
//!
//! | name | as | what it does |
//! |---|---|---|
//! | `init` | process 1 | the system on a medium |
//! | `modprobe` | the kernel's helper | loads a module and what it needs |

use std::path::Path;
use std::process::ExitCode;

use super::exit::Exit;
use super::printer;
use crate::install::live::{first, second};
use crate::sys::appliance::serve_modprobe;

/// Does what the name of this process asks for; `None` when it is an ordinary call.
pub(super) fn by_name() -> Option<ExitCode> {
    let mut arguments = std::env::args();
    let called = arguments.next().unwrap_or_default();
    let name = Path::new(&called).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let ended = match name.as_str() {
        "init" if first::is_called() => first::run(),
        "init" if std::process::id() == 1 => second::run(),
        "modprobe" => match serve_modprobe(arguments) {
            Ok(()) => return Some(Exit::Done.into()),
            Err(error) => error,
        },
        _ => return None,
    };
    printer::error(&ended.to_string());
    Some(Exit::Failed.into())
}
