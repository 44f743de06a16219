//! Sortie's OCI runtime as an engine's default one: into daemon.json and out again, with no
//! restart of engine or containers.
//!
//! `daemon_json` edits the file, `daemon` finds the process that reads it. The engine calls the
//! runtime by a link, whose name and folder tell this program that it is the runtime, and where
//! its settings are. `runtimeArgs` could not: Docker 20.10 makes a script of them, and throws it
//! away at the next reload, although running containers still need it.

mod daemon;
mod daemon_json;

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::models::SystemInfo;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::EngineConfig;
use super::engine::Engine;
use crate::Error;
use daemon::Daemon;
use daemon_json::DaemonJson;

/// The link's name: by it this program knows that it is called as the runtime.
pub const LINK: &str = "sortie-runtime";
/// The runtime's name in daemon.json.
const NAME: &str = "sortie";
/// Docker's own runtime, under its two names.
const STOCK: [&str; 2] = ["runc", "io.containerd.runc.v2"];
/// How long the daemon may take to read its file again.
const RELOAD: Duration = Duration::from_secs(10);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// What the runtime must know, from the folder of its link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// The real runtime: a path, or a name in PATH.
    pub runtime: String,
    /// What comes before the engine's arguments.
    pub arguments: Vec<String>,
    /// The agent's socket.
    pub agent: PathBuf,
    /// How long a start may wait for its decision, in seconds.
    pub limit_seconds: u64,
    /// Where the engine keeps its containers.
    pub containers: PathBuf,
    /// What `uninstall` puts back; none where daemon.json named no default.
    pub former_default: Option<String>,
}

impl Settings {
    /// Reads them.
    pub fn load(folder: &Path) -> Result<Self, Error> {
        let path = Self::file(folder);
        let failed = |detail: String| Error::File {
            operation: "read",
            path: path.clone(),
            detail,
        };
        let text = fs::read_to_string(&path).map_err(|error| failed(error.to_string()))?;
        serde_json::from_str(&text).map_err(|error| failed(error.to_string()))
    }

    fn file(folder: &Path) -> PathBuf {
        folder.join("runtime.json")
    }
}

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

/// What was changed, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The daemon's file.
    pub file: PathBuf,
    /// Its changed lines, each after `-` or `+`; empty when nothing changes there.
    pub difference: Vec<String>,
    /// Containers that keep their runtime until they are re-created, by name.
    pub recreate: Vec<String>,
    /// Nothing was changed.
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
            self.write(&settings)?;
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
                self.remove()?;
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
            runtime,
            arguments,
            agent: self.agent.clone(),
            limit_seconds: self.limit_seconds,
            containers: Path::new(root).join("containers"),
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
            why: format!(
                "it has a runtime {NAME:?} with the path {found}, which is not {}; take that one out first",
                self.link().display()
            ),
        })
    }

    /// Link and settings; each is the old one or the new one at any time.
    fn write(&self, settings: &Settings) -> Result<(), Error> {
        let failed = |operation, path: &Path| {
            let path = path.to_owned();
            move |error: io::Error| Error::File {
                operation,
                path,
                detail: error.to_string(),
            }
        };
        fs::create_dir_all(&self.folder).map_err(failed("make", &self.folder))?;
        let path = Settings::file(&self.folder);
        let text = serde_json::to_string_pretty(settings).unwrap_or_default();
        daemon_json::replace(&path, &(text + "\n")).map_err(failed("write", &path))?;
        let program =
            std::env::current_exe().map_err(failed("find", Path::new("/proc/self/exe")))?;
        let (link, new) = (self.link(), self.folder.join(".link"));
        let linked = match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => symlink(&program, &new).and_then(|()| fs::rename(&new, &link)),
        };
        linked.map_err(failed("make", &link))
    }

    fn remove(&self) -> Result<(), Error> {
        for path in [self.link(), Settings::file(&self.folder)] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::File {
                        operation: "remove",
                        path,
                        detail: error.to_string(),
                    });
                }
                _ => {}
            }
        }
        // Somebody else's files may be in it.
        let _ = fs::remove_dir(&self.folder);
        Ok(())
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
            why: format!(
                "the daemon did not take what was written to {} within {} s; the file is as before, and the daemon's log says why",
                file.path().display(),
                RELOAD.as_secs()
            ),
        })
    }
}

/// What became of an installed runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// The link that the engine calls.
    pub link: PathBuf,
    /// Where it leads; none when it is not there.
    pub program: Option<PathBuf>,
    /// The engine's default runtime, whether it knows the link, and the containers that have another
    /// runtime, by name; none when it does not answer.
    pub engine: Option<(String, bool, Vec<String>)>,
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
        Ok::<_, Error>((default(&info).to_owned(), known, others))
    };
    Some(Installed {
        program: fs::read_link(&link).ok(),
        engine: engine.await.ok(),
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
