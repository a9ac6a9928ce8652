//! Ctrl-C and, on Unix, SIGTERM.

use anyhow::Context as _;

/// Calls `heard`, in a thread of its own, each time that the user wants the program to end. Before
/// the first time, such a signal no longer ends it by itself.
pub(crate) fn listen(heard: impl Fn() + Send + 'static) -> anyhow::Result<()> {
    let context = "signals cannot be listened for";
    // Of tokio only its signals are made use of here, whatever adapter serves the robot.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().context(context)?;
    let mut interrupts = runtime.block_on(async { Interrupts::new() }).context(context)?;
    let listen = move || {
        runtime.block_on(async {
            loop {
                interrupts.next().await;
                heard();
            }
        });
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(listen).context(context)?;
    Ok(())
}

struct Interrupts {
    #[cfg(unix)]
    signals: [tokio::signal::unix::Signal; 2],
}

#[cfg(unix)]
impl Interrupts {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let [interrupt, terminate] = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
        Ok(Self { signals: [interrupt?, terminate?] })
    }

    async fn next(&mut self) {
        let [interrupt, terminate] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
impl Interrupts {
    fn new() -> std::io::Result<Self> {
        Ok(Self {})
    }

    async fn next(&mut self) {
        // Without a way to hear of it, the robot serves until it is killed.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}
