//! Network namespaces for tests: made by the test, gone with it.

use std::process::Command;

use crate::kernel::{Kernel, Options};
use crate::netns::Namespace;

/// Runs a test inside a network namespace of its own, with the loopback up.
pub(crate) fn in_namespace<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    let namespace = Namespace::anonymous()
        .expect("these tests make network namespaces: run them as root or under `unshare -Urnm`");
    namespace
        .enter(|| {
            sh("ip link set lo up");
            test()
        })
        .unwrap()
}

/// Runs a shell script in the calling thread's namespace; gives what it printed.
pub(crate) fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(
        output.status.success(),
        "{script}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// The kernel of the calling thread's namespace, and the folder of its notes.
pub(crate) fn open_kernel() -> (Kernel, tempfile::TempDir) {
    let state = tempfile::tempdir().unwrap();
    let kernel = Kernel::open(Options {
        state: state.path().to_owned(),
        ..Options::default()
    })
    .unwrap();
    (kernel, state)
}
