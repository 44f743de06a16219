//! Sortie's runtime as Podman's default one: a file of its own beside the user's.
//!
//! The runtime is named by its path. A name would have to be in the configuration of everybody who
//! handles such a container, for as long as it is there: Podman keeps the name with the container,
//! and a service that was started earlier, or an engine after `uninstall`, could not even stop it.
//! The path's last part is the real runtime's name, because Podman knows by it what a runtime can do.

mod cli;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sortie_api::workload::Engine;

use super::{Answer, Installed, LINK, Report, Settings, failed, lead, remove, remove_file, write};
use crate::Error;
use crate::docker::begun::podman::{readable, runtimes};
use crate::docker::libpod;
use cli::Info;

/// Podman reads all `*.conf` here in the order of their names, after its own file, and a later one
/// wins (containers/common, pkg/config/config.go).
const FOLDER: &str = "/etc/containers/containers.conf.d";
const FILE: &str = "99-sortie.conf";
/// How that file begins, so that another one of its name is left alone.
const OURS: &str = "# Written by `sortie install podman`, removed by `sortie uninstall podman`.";

/// How the runtime is installed.
#[derive(Debug, Clone)]
pub struct Installation {
    /// The socket of the API service, which may not be there.
    pub socket: PathBuf,
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
    /// Makes Sortie's runtime Podman's default.
    ///
    /// 1. What cannot be done, or would do nothing, is refused before anything is changed.
    /// 2. Settings and link are there before Podman may call them.
    /// 3. Podman itself must say that the link is its runtime now; else all is taken back.
    /// 4. Containers of another runtime are named: they keep it.
    pub async fn install(&self) -> Result<Report, Error> {
        cli::refuse_other_configuration()?;
        let info = cli::info().await?;
        let settings = self.settings(&info)?;
        let link = self.link(&settings.name);
        readable(&settings.containers).await.map_err(|error| {
            kept(format!(
                "containers cannot be read from its database {}: {error}; its version is {}, and only up to version 4 it keeps them in BoltDB",
                settings.containers.display(),
                info.version
            ))
        })?;
        let text = drop_in(&link);
        let found = found()?;
        let changed = found.as_ref() != Some(&text);
        if !self.dry_run {
            write(&self.folder, &link, &settings)?;
            if changed {
                put(&text)?;
            }
            let now = cli::info().await.map(|info| info.runtime);
            if !now.as_ref().is_ok_and(|it| Path::new(it) == link) {
                if let Some(found) = &found {
                    put(found)?;
                } else {
                    take_out()?;
                    remove(&self.folder, &link)?;
                }
                let now = now?;
                return Err(kept(format!(
                    "it says that its runtime is {now} in spite of {FOLDER}/{FILE}, which was taken back; look for what is read later"
                )));
            }
        }
        let all = runtimes(&settings.containers).await?;
        let others = all
            .into_iter()
            .filter(|(_, runtime)| Path::new(runtime) != link);
        let recreate = others.map(|(name, _)| name).collect();
        let lines = text.lines().map(|line| format!("+ {line}"));
        Ok(Report {
            service_is_older: !self.dry_run && self.service_has(|it| it != link).await,
            closed: Self::closed(&link),
            ..self.report(changed.then(|| lines.collect()), recreate)
        })
    }

    /// Makes the former runtime Podman's again.
    ///
    /// 1. The file goes, and Podman must say that it has another runtime.
    /// 2. While something still calls the link, it leads to the real runtime: a container that has
    ///    it, a running one that was started meanwhile (what takes its network down at its end
    ///    names the runtime), or a service.
    /// 3. Else nothing of it stays.
    pub async fn uninstall(&self) -> Result<Report, Error> {
        cli::refuse_other_configuration()?;
        let settings = Settings::load(&self.folder).ok();
        let found = found()?;
        if !self.dry_run {
            take_out()?;
        }
        let info = cli::info().await?;
        if !self.dry_run && self.is_ours(&info.runtime) {
            return Err(kept(format!(
                "{} is named as its runtime elsewhere than in {FOLDER}/{FILE}; take it out there",
                info.runtime
            )));
        }
        let database = settings
            .as_ref()
            .map_or(&info.database, |it| &it.containers);
        let monitored = cli::monitors(|word| self.is_ours(word));
        // A monitor may outlive its container, for an `exec` by minutes: it has nothing to do then.
        let mut users = runtimes(database).await?;
        users.retain(|(name, runtime)| self.is_ours(runtime) || monitored.contains(name));
        let users: Vec<String> = users.into_iter().map(|(name, _)| name).collect();
        let service = self.service_has(|it| it.starts_with(self.links())).await;
        if let (Some(settings), false) = (&settings, self.dry_run) {
            let link = self.link(&settings.name);
            if users.is_empty() && !service {
                remove(&self.folder, &link)?;
            } else {
                lead(&link, Path::new(&settings.runtime))?;
            }
        }
        let gone = found.map(|text| text.lines().map(|line| format!("- {line}")).collect());
        Ok(Report {
            service_is_older: service,
            ..self.report(gone, users)
        })
    }

    fn report(&self, difference: Option<Vec<String>>, mut recreate: Vec<String>) -> Report {
        recreate.sort();
        Report {
            file: Path::new(FOLDER).join(FILE),
            difference: difference.unwrap_or_default(),
            recreate,
            service_is_older: false,
            closed: None,
            dry_run: self.dry_run,
        }
    }

    fn links(&self) -> PathBuf {
        self.folder.join(LINK)
    }

    fn link(&self, name: &str) -> PathBuf {
        self.links().join(name)
    }

    fn is_ours(&self, runtime: &str) -> bool {
        Path::new(runtime).starts_with(self.links())
    }

    /// The real runtime is Podman's default as it is now; a second time it is the one that the
    /// first time found.
    fn settings(&self, info: &Info) -> Result<Settings, Error> {
        let (runtime, name) = if self.is_ours(&info.runtime) {
            let before = Settings::load(&self.folder)?;
            (before.runtime, before.name)
        } else {
            (info.runtime.clone(), info.name.clone())
        };
        Ok(Settings {
            engine: Engine::Podman,
            runtime,
            name,
            arguments: Vec::new(),
            agent: self.agent.clone(),
            limit_seconds: self.limit_seconds,
            containers: info.database.clone(),
            storage: info.storage.clone(),
            former_default: None,
        })
    }

    /// The first folder on the way to the runtime that only its owner may pass.
    fn closed(link: &Path) -> Option<PathBuf> {
        let program = std::env::current_exe().unwrap_or_default();
        let mut way = link.ancestors().skip(1).chain(program.ancestors().skip(1));
        let is_closed =
            |path: &&Path| fs::metadata(path).is_ok_and(|it| it.permissions().mode() & 0o001 == 0);
        way.find(is_closed).map(Path::to_owned)
    }

    /// What the runtime of the service is, if one runs; it reads its configuration only once.
    async fn service_has(&self, is_it: impl Fn(&Path) -> bool) -> bool {
        let runtime = libpod::runtime(&self.socket).await;
        runtime.is_ok_and(|runtime| is_it(Path::new(&runtime)))
    }
}

/// Looks at a runtime, and changes nothing; none where none is installed, or only what containers
/// still need. `socket` is that of the API service.
pub async fn look(folder: &Path, socket: &Path) -> Option<Installed> {
    let settings = Settings::load(folder).ok()?;
    let link = folder.join(LINK).join(&settings.name);
    let program = fs::read_link(&link).ok();
    if program.as_deref() == Some(Path::new(&settings.runtime)) {
        return None;
    }
    let answer = async {
        let info = cli::info().await?;
        let all = runtimes(&info.database).await?;
        let others = all
            .into_iter()
            .filter(|(_, runtime)| Path::new(runtime) != link);
        let mut others: Vec<String> = others.map(|(name, _)| name).collect();
        others.sort();
        let service = libpod::runtime(socket).await.ok();
        Ok::<_, Error>(Answer {
            is_default: Path::new(&info.runtime) == link,
            default: info.runtime,
            known: true,
            others,
            older_service: service.filter(|runtime| Path::new(runtime) != link),
        })
    };
    Some(Installed {
        engine: Engine::Podman,
        program,
        answer: answer.await.ok(),
        link,
    })
}

fn kept(why: String) -> Error {
    Error::NotInstalled {
        engine: Engine::Podman,
        why,
    }
}

/// A path is quoted as in JSON, which TOML reads too.
fn drop_in(link: &Path) -> String {
    let path = serde_json::Value::from(link.to_string_lossy());
    format!("{OURS}\n[engine]\nruntime = {path}\n")
}

/// What is in our file; somebody else's is refused.
fn found() -> Result<Option<String>, Error> {
    let path = Path::new(FOLDER).join(FILE);
    match fs::read_to_string(&path) {
        Ok(text) if text.starts_with(OURS) => Ok(Some(text)),
        Ok(_) => Err(kept(format!(
            "{} is somebody else's, it does not begin with {OURS:?}; rename it",
            path.display()
        ))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", &path)(error)),
    }
}

fn put(text: &str) -> Result<(), Error> {
    let path = Path::new(FOLDER).join(FILE);
    fs::create_dir_all(FOLDER).map_err(failed("make", Path::new(FOLDER)))?;
    super::daemon_json::replace(&path, text).map_err(failed("write", &path))
}

/// The folder stays only if something else is in it: no package of Podman's brings an empty one.
fn take_out() -> Result<(), Error> {
    remove_file(&Path::new(FOLDER).join(FILE))?;
    let _ = fs::remove_dir(FOLDER);
    Ok(())
}
