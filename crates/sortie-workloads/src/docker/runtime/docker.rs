//! Sortie's runtime as Docker's default one: into daemon.json and out again.
//!
//! `daemon_json` edits the file, `daemon` finds the process that reads it. `runtimeArgs` could not
//! tell the runtime what it is and where its settings are: Docker 20.10 makes a script of them, and
//! throws it away at the next reload, although running containers still need it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::models::SystemInfo;
use serde_json::{Value, json};
use sortie_api::workload::Engine as EngineKind;
use tokio::time::Instant;

use super::daemon::Daemon;
use super::daemon_json::DaemonJson;
use super::{Answer, Installed, LINK, Report, Settings, remove, write};
use crate::Error;
use crate::docker::EngineConfig;
use crate::docker::engine::Engine;

/// The runtime's name in daemon.json.
const NAME: &str = "sortie";
/// Docker's own runtime, under its two names.
const STOCK: [&str; 2] = ["runc", "io.containerd.runc.v2"];
/// How long the daemon may take to read its file again.
const RELOAD: Duration = Duration::from_secs(10);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// How the runtime is installed.
#[derive(Debug, Clone)]
pub struct Installation {
    /// The engine's socket.
    pub docker: PathBuf,
    /// The folder for the link and its settings; the agent's state is in the folder above.
    pub folder: PathBuf,
    /// The agent's socket.
    pub agent: PathBuf,
    /// How long a start may wait for its decision, in seconds.
    pub limit_seconds: u64,
    /// Change nothing, only tell.
    pub dry_run: bool,
}

impl Installation {
    fn link(&self) -> PathBuf {
        self.folder.join(LINK)
    }

    /// Makes Sortie's runtime the engine's default.
    ///
    /// 1. What cannot be done is refused before anything is changed.
    /// 2. Settings and link are there before the engine may call them.
    /// 3. The daemon reads the file again, and must say that it did; else all is put back.
    /// 4. Containers of another runtime are named: they keep it.
    pub async fn install(&self) -> Result<Report, Error> {
        let engine = Engine::connect(&EngineConfig::docker(&self.docker)).await?;
        let daemon = Daemon::find(&self.docker).await?;
        daemon.refuse_flags(&["default-runtime", "add-runtime"])?;
        let info = engine.info().await?;
        let mut file = DaemonJson::read(&daemon.config_file()?)?;
        let settings = self.settings(&info, &file)?;
        file.set_runtime(NAME, json!({"path": self.link()}))?;
        file.set_default(Some(NAME));
        if !self.dry_run {
            write(&self.folder, &self.link(), &settings)?;
            self.put(&engine, &daemon, &file, |info| {
                let path = path_of(info, NAME).map(PathBuf::from);
                default(info) == NAME && path == Some(self.link())
            })
            .await?;
        }
        let all = engine.runtimes().await?;
        let others = all.into_iter().filter(|(_, runtime)| runtime != NAME);
        Ok(self.report(&file, others))
    }

    /// Makes the former default the engine's again.
    ///
    /// 1. While a container has Sortie's runtime, its name leads to the real one: without the
    ///    name it could not be started, and without the link a running one could not be stopped.
    /// 2. Else nothing of it stays.
    pub async fn uninstall(&self) -> Result<Report, Error> {
        let engine = Engine::connect(&EngineConfig::docker(&self.docker)).await?;
        let daemon = Daemon::find(&self.docker).await?;
        let mut file = DaemonJson::read(&daemon.config_file()?)?;
        let all = engine.runtimes().await?;
        let users: Vec<_> = all
            .into_iter()
            .filter(|(_, runtime)| runtime == NAME)
            .collect();
        let settings = Settings::load(&self.folder).ok();
        let real = settings.as_ref().map_or(STOCK[0], |it| &it.runtime);
        let former = settings
            .as_ref()
            .and_then(|it| it.former_default.as_deref());
        if let Some(found) = file.path_of(NAME) {
            self.refuse_foreign(found, settings.as_ref())?;
        }
        if file.default() == Some(NAME) {
            file.set_default(Some(former.unwrap_or(STOCK[0])));
        }
        if users.is_empty() {
            file.remove_runtime(NAME);
        } else {
            let arguments = settings.as_ref().map_or(&[][..], |it| &it.arguments);
            file.set_runtime(NAME, entry(real, arguments))?;
        }
        // A key that is not there leaves the running daemon as it is: it must be told first.
        let mut last = file.clone();
        if users.is_empty() {
            if former.is_none() && last.default() == Some(STOCK[0]) && settings.is_some() {
                last.set_default(None);
            }
            last.remove_empty_runtimes();
        }
        if !self.dry_run {
            self.put(&engine, &daemon, &file, |info| {
                let path = path_of(info, NAME);
                let wanted = (!users.is_empty()).then_some(real);
                default(info) != NAME && path == wanted
            })
            .await?;
            last.write()?;
            if users.is_empty() {
                remove(&self.folder, &self.link())?;
            }
        }
        Ok(self.report(&last, users.into_iter()))
    }

    fn report(
        &self,
        file: &DaemonJson,
        recreate: impl Iterator<Item = (String, String)>,
    ) -> Report {
        let mut recreate: Vec<String> = recreate.map(|(name, _)| name).collect();
        recreate.sort();
        Report {
            file: file.path().to_owned(),
            difference: file.difference(),
            recreate,
            service_is_older: false,
            closed: None,
            dry_run: self.dry_run,
        }
    }

    /// The real runtime is the engine's default as it is now; a second time it is the one that
    /// the first time found.
    fn settings(&self, info: &SystemInfo, file: &DaemonJson) -> Result<Settings, Error> {
        let before = Settings::load(&self.folder).ok();
        if let Some(found) = file.path_of(NAME) {
            self.refuse_foreign(found, before.as_ref())?;
        }
        let now = default(info);
        let (runtime, arguments) = if now == NAME {
            match &before {
                Some(before) => (before.runtime.clone(), before.arguments.clone()),
                None => (STOCK[0].to_owned(), Vec::new()),
            }
        } else if STOCK.contains(&now) {
            (STOCK[0].to_owned(), Vec::new())
        } else {
            let refused = || Error::NotInstalled {
                engine: EngineKind::Docker,
                why: format!(
                    "its default runtime {now:?} is no program with a path in {}, so it cannot be called behind Sortie's",
                    file.path().display()
                ),
            };
            let path = file.path_of(now).ok_or_else(refused)?;
            (path.to_owned(), file.arguments_of(now))
        };
        let former_default = match file.default() {
            Some(NAME) => before.and_then(|before| before.former_default),
            other => other.map(str::to_owned),
        };
        let root = info.docker_root_dir.as_deref().unwrap_or("/var/lib/docker");
        Ok(Settings {
            engine: EngineKind::Docker,
            runtime,
            name: String::new(),
            arguments,
            agent: self.agent.clone(),
            limit_seconds: self.limit_seconds,
            containers: Path::new(root).join("containers"),
            storage: PathBuf::new(),
            former_default,
        })
    }

    /// The name may be somebody else's.
    fn refuse_foreign(&self, found: &str, settings: Option<&Settings>) -> Result<(), Error> {
        let ours = Path::new(found) == self.link()
            || settings.is_some_and(|settings| settings.runtime == found);
        if ours {
            return Ok(());
        }
        Err(Error::NotInstalled {
            engine: EngineKind::Docker,
            why: format!(
                "it has a runtime {NAME:?} with the path {found}, which is not {}; take that one out first",
                self.link().display()
            ),
        })
    }

    /// Writes the file, and has the daemon read it; when it does not take it, all is put back.
    async fn put(
        &self,
        engine: &Engine,
        daemon: &Daemon,
        file: &DaemonJson,
        taken: impl Fn(&SystemInfo) -> bool,
    ) -> Result<(), Error> {
        if file.difference().is_empty() && taken(&engine.info().await?) {
            return Ok(());
        }
        file.write()?;
        daemon.reload()?;
        let deadline = Instant::now() + RELOAD;
        while Instant::now() < deadline {
            if taken(&engine.info().await?) {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
        file.put_back()?;
        daemon.reload()?;
        Err(Error::NotInstalled {
            engine: EngineKind::Docker,
            why: format!(
                "the daemon did not take what was written to {} within {} s; the file is as before, and the daemon's log says why",
                file.path().display(),
                RELOAD.as_secs()
            ),
        })
    }
}

/// Looks at a runtime, and changes nothing; none where none is installed.
pub async fn look(folder: &Path, docker: &Path) -> Option<Installed> {
    Settings::load(folder).ok()?;
    let link = folder.join(LINK);
    let engine = async {
        let engine = Engine::connect(&EngineConfig::docker(docker)).await?;
        let info = engine.info().await?;
        let known = path_of(&info, NAME).map(Path::new) == Some(&link);
        let all = engine.runtimes().await?;
        let others = all.into_iter().filter(|(_, runtime)| runtime != NAME);
        let mut others: Vec<String> = others.map(|(name, _)| name).collect();
        others.sort();
        Ok::<_, Error>(Answer {
            default: default(&info).to_owned(),
            is_default: default(&info) == NAME,
            known,
            others,
            older_service: None,
        })
    };
    Some(Installed {
        engine: EngineKind::Docker,
        program: fs::read_link(&link).ok(),
        answer: engine.await.ok(),
        link,
    })
}

fn entry(path: &str, arguments: &[String]) -> Value {
    if arguments.is_empty() {
        return json!({"path": path});
    }
    json!({"path": path, "runtimeArgs": arguments})
}

fn default(info: &SystemInfo) -> &str {
    info.default_runtime.as_deref().unwrap_or_default()
}

fn path_of<'a>(info: &'a SystemInfo, name: &str) -> Option<&'a str> {
    info.runtimes.as_ref()?.get(name)?.path.as_deref()
}
