//! Images made on the spot: nothing is pulled.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::TryStreamExt;

use super::Engine;
use crate::error::{Doing, LabError, Result};

/// The image that containers have when nothing else is said.
pub(super) const BUSYBOX: &str = "lab/busybox:1";

impl Engine {
    /// An image with a static busybox and a link for each of its applets. Made once.
    ///
    /// # Errors
    /// When there is no static busybox on the machine, or the engine refuses.
    pub fn image_busybox(&self) -> Result<String> {
        if self.has_image(BUSYBOX) {
            return Ok(BUSYBOX.to_owned());
        }
        let root = self.busybox_folder("busybox")?;
        self.import(&root, BUSYBOX, &[])
    }

    /// The same with the machine's curl, and with the libraries that it loads. Made once.
    ///
    /// # Errors
    /// When there is no curl or no static busybox on the machine, or the engine refuses.
    pub fn image_curl(&self) -> Result<String> {
        const CURL: &str = "/usr/bin/curl";
        const IMAGE: &str = "lab/curl:1";
        if self.has_image(IMAGE) {
            return Ok(IMAGE.to_owned());
        }
        let root = self.busybox_folder("curl")?;
        copy(Path::new(CURL), &root.join("bin/curl"))?;
        // Such as `libz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x…)`, or the loader's path alone.
        let loaded = output(Command::new("ldd").arg(CURL))?;
        let loaded = String::from_utf8_lossy(&loaded);
        let words = loaded.split_whitespace();
        for library in words.filter_map(|word| word.strip_prefix('/')) {
            let to = root.join(library);
            let folder = to.parent().unwrap_or(&root);
            std::fs::create_dir_all(folder).doing("make", folder.display())?;
            copy(&Path::new("/").join(library), &to)?;
        }
        self.import(&root, IMAGE, &[])
    }

    /// A folder with a static busybox and a link for each of its applets.
    fn busybox_folder(&self, name: &str) -> Result<PathBuf> {
        let root = self.image_folder(name)?;
        let busybox = busybox()?;
        copy(&busybox, &root.join("bin/busybox"))?;
        let applets = output(Command::new(&busybox).arg("--list"))?;
        for applet in String::from_utf8_lossy(&applets)
            .lines()
            .filter(|applet| *applet != "busybox")
        {
            let link = root.join("bin").join(applet);
            symlink("busybox", &link).doing("link", link.display())?;
        }
        Ok(root)
    }

    /// An image with nothing but a static program, which is its entry point.
    ///
    /// # Errors
    /// When the file cannot be read, or the engine refuses.
    pub fn image_of(&self, program: &Path) -> Result<String> {
        let name = program
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let image = format!("lab/{name}:1");
        if self.has_image(&image) {
            return Ok(image);
        }
        let root = self.image_folder(&name)?;
        copy(program, &root.join("bin").join(&name))?;
        self.import(&root, &image, &[format!("ENTRYPOINT [\"/bin/{name}\"]")])
    }

    fn has_image(&self, image: &str) -> bool {
        self.ask("inspect image", image, async |docker: bollard::Docker| {
            docker.inspect_image(image).await
        })
        .is_ok()
    }

    /// An empty root folder for an image, with the folders that programs expect.
    fn image_folder(&self, name: &str) -> Result<PathBuf> {
        let root = self.inner.folder.join(format!("image-{name}"));
        for folder in ["bin", "etc", "proc", "root", "sys", "tmp", "var"] {
            let path = root.join(folder);
            std::fs::create_dir_all(&path).doing("make", path.display())?;
        }
        Ok(root)
    }

    fn import(&self, root: &Path, image: &str, changes: &[String]) -> Result<String> {
        let archive = output(Command::new("tar").arg("-C").arg(root).args(["-c", "."]))?;
        let mut options = CreateImageOptionsBuilder::default()
            .from_src("-")
            .repo(image)
            .build();
        options.changes = changes.to_vec();
        self.ask("import image", image, async |docker: bollard::Docker| {
            let archive = bollard::body_full(archive.into());
            docker
                .create_image(Some(options), Some(archive), None)
                .try_collect::<Vec<_>>()
                .await
        })?;
        Ok(image.to_owned())
    }
}

/// The machine's static busybox.
fn busybox() -> Result<PathBuf> {
    const PLACES: [&str; 2] = ["/bin/busybox", "/usr/bin/busybox"];
    let found = PLACES
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.is_file());
    found.ok_or_else(|| LabError::EngineMissing {
        engine: "a static busybox".into(),
        path: PLACES.join(" or "),
        goal: "demo",
    })
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to)
        .doing("copy", from.display())
        .map(drop)
}

fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.output().map_err(|source| LabError::Program {
        program: command.get_program().to_string_lossy().into_owned(),
        source,
    })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(LabError::Failed {
        command: format!("{command:?}"),
        status: output.status,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
