//! SIGINT and SIGTERM: the first one asks the command to stop, a later one ends it at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use segen::progress::Progress;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::commands::Exit;
use crate::output::Output;

/// What a command does when it is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Its work looks whether it is asked, leaves what is needed to go on, and says so.
    GoesOnLater,
    /// It ends: what it has finished is whole, since files get their names when they are complete.
    BeginsAgain,
}

/// From when on a second signal counts: some programs (`timeout`, batch systems) send the first one twice.
const GRACE: Duration = Duration::from_millis(300);
const PAUSE: Duration = Duration::from_millis(30);

/// Lets signals ask `output` to stop. Where the system takes no handlers, signals end the process as they always do.
pub(crate) fn watch(output: &Arc<Output>, manner: Manner) {
    let (asked, armed) = (output.asked(), Arc::new(AtomicBool::new(false)));
    for signal in [SIGINT, SIGTERM] {
        // In this order: what ends the process must not see the signal that asks.
        let ends = flag::register_conditional_default(signal, armed.clone());
        if ends.and_then(|_| flag::register(signal, asked.clone())).is_err() {
            return;
        }
    }
    let output = output.clone();
    std::thread::spawn(move || {
        while !asked.load(Ordering::Relaxed) {
            std::thread::sleep(PAUSE);
        }
        if manner == Manner::BeginsAgain {
            output.end();
            output.line("stopped: what is finished is whole, the same command begins again");
            std::process::exit(i32::from(Exit::Stopped as u8));
        }
        output.note("stopping where it can go on later; a second signal ends at once");
        std::thread::sleep(GRACE);
        armed.store(true, Ordering::Relaxed);
    });
}
