//! What the core tells the service manager: that the tables stand, that its loop turns, and how
//! things are.

use std::time::{Duration, Instant};

use super::Core;
use crate::api::EngineState;
use crate::systemd::{self, Notify};

/// The manager, and what it was told.
pub(super) struct Manager {
    notify: Notify,
    /// Twice as often as it asks for, as sd_watchdog_enabled(3) recommends.
    beat: Option<Duration>,
    due: Option<Instant>,
    ready: bool,
    said: String,
}

impl Manager {
    /// The one that started this agent, if there is one.
    pub(super) fn from_environment() -> Option<Self> {
        let beat = systemd::watchdog().map(|asked| asked / 2);
        Some(Self {
            notify: Notify::from_environment()?,
            beat,
            due: beat.map(|_| Instant::now()),
            ready: false,
            said: String::new(),
        })
    }

    /// When its watchdog is to be told again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The agent ends.
    pub(super) fn stopping(&self) {
        self.notify.say("STOPPING=1");
    }
}

impl Core {
    /// At each turn of the loop, so that a loop that hangs says nothing:
    /// 1. Once our tables are what they should be, that whatever waits for that may start.
    /// 2. When it is time, that the loop turns.
    /// 3. How things are, when that has changed.
    pub(super) fn tell_manager(&mut self, now: Instant) {
        let failing = self.failing.is_some();
        let waits = self.failing.as_ref().is_some_and(|it| it.concerns(&[]));
        let engines = self.engine_statuses();
        let engines = engines.iter().filter(|it| it.state != EngineState::Absent);
        let engines: Vec<String> = engines
            .map(|it| format!("{} {}", it.name, it.state.name()))
            .collect();
        let engines = match engines.as_slice() {
            [] => "none".to_owned(),
            all => all.join(", "),
        };
        let kernel = if failing {
            "; the kernel does not hold what it should"
        } else {
            ""
        };
        let containers: usize = self.engines.iter().map(|it| it.containers.len()).sum();
        let Some(manager) = &mut self.manager else {
            return;
        };
        if !manager.ready && !waits {
            manager.ready = true;
            manager.notify.say("READY=1");
        }
        if manager.due.is_some_and(|due| due <= now) {
            manager.due = manager.beat.map(|beat| now + beat);
            manager.notify.say("WATCHDOG=1");
        }
        let status = format!("STATUS=Engines: {engines}; {containers} containers{kernel}");
        if manager.said != status {
            manager.notify.say(&status);
            manager.said = status;
        }
    }
}
