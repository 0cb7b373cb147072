//! A disk that is full, not to be written to, somebody else's, or prepared by somebody else: before keys are made,
//! and after.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use harness::{Moment, Proxy, Trouble, Vault, run, spawn};

use crate::crew::{Crew, SOON};
use crate::hurt::all_there_is;

/// How many pages of 4 KiB it has: enough for all that unsealer keeps.
const PAGES: usize = 64;

/// A filesystem of its own for the keys, unmounted when dropped.
struct Disk(PathBuf);

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

impl Disk {
    /// A tmpfs. Only root may mount: anybody else is told that nothing was proven.
    fn for_keys_of(crew: &Crew) -> Option<Arc<Self>> {
        let path = crew.path("keys");
        let kept = path.exists().then(|| crew.path("kept"));
        if let Some(kept) = &kept {
            fs::rename(&path, kept).unwrap();
        }
        fs::create_dir(&path).unwrap();
        let options = format!("size={}k,mode=0700", PAGES * 4);
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&path).output();
        let mount = mount.expect("mount");
        if !mount.status.success() {
            let why = String::from_utf8_lossy(&mount.stderr).into_owned();
            assert!(!is_root(), "root cannot mount a tmpfs: {why}");
            eprintln!("NOT TESTED: only root can mount a tmpfs: {why}");
            return None;
        }
        let disk = Arc::new(Self(path));
        if let Some(kept) = kept {
            assert!(
                Command::new("cp").arg("-a").arg(kept.join(".")).arg(&disk.0).status().unwrap().success()
            );
            fs::remove_dir_all(kept).unwrap();
        }
        Some(disk)
    }

    fn remount(&self, how: &str) {
        let status = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(&self.0).status();
        assert!(status.expect("mount").success(), "remount,{how}");
    }

    /// Fills it up, but for so many pages; gives back what an earlier filling took.
    fn fill_but(&self, pages: usize) {
        self.empty();
        let filler = self.0.join("filler");
        let too_much = (1..=PAGES + 1).find(|size| fs::write(&filler, vec![0; size * 4096]).is_err());
        let free = too_much.expect("it is no larger than that") - 1;
        self.empty();
        fs::write(&filler, vec![0; free.saturating_sub(pages) * 4096]).expect("room for less than all");
    }

    fn empty(&self) {
        let _ = fs::remove_file(self.0.join("filler"));
    }
}

fn is_root() -> bool {
    let user = Command::new("id").arg("-u").output().expect("id");
    user.stdout == b"0\n"
}

#[test]
fn an_init_begins_on_no_disk_that_would_not_hold_the_keys() {
    let crew = Crew::new();
    let Some(disk) = Disk::for_keys_of(&crew) else { return };
    disk.remount("ro");
    let refused = run(&mut crew.unsealer("init")).expect_code(1);
    assert!(refused.stderr.contains("mount its filesystem writable"), "{}", refused.stderr);
    disk.remount("rw");
    let begun = (0..PAGES).find(|&pages| {
        disk.fill_but(pages);
        let init = run(&mut crew.unsealer("init"));
        if init.code() == 0 {
            return true;
        }
        assert!(init.stderr.contains("free space"), "{pages} pages: {}", init.stderr);
        assert_eq!(crew.vault.health(), Some(501), "{pages} pages: {}", init.stderr);
        false
    });
    // The answer, five shares, the break-glass credential, and what is on its way.
    assert!(begun >= Some(12), "an init began with {begun:?} free pages");
    run(&mut crew.unsealer("unseal")).success();
}

#[test]
fn an_answer_that_the_disk_does_not_take_is_kept_until_it_does() {
    for (spoil, mend) in [
        ((|disk: &Disk| disk.fill_but(0)) as fn(&Disk), Disk::empty as fn(&Disk)),
        (|disk: &Disk| disk.remount("ro"), |disk: &Disk| disk.remount("rw")),
    ] {
        let crew = Crew::new();
        let Some(disk) = Disk::for_keys_of(&crew) else { return };
        let proxy = Proxy::start(crew.vault.addresses()[0]);
        proxy.at(Moment::BeforeAnswer, 2, {
            let disk = Arc::clone(&disk);
            move || {
                spoil(&disk);
                Trouble::None
            }
        });
        let mut init = spawn(crew.unsealer("init").env("VAULT_ADDR", proxy.addr()));
        init.wait_for_log("IN THE MEMORY OF THIS PROCESS ALONE", SOON);
        assert!(!crew.path("keys/unseal-key-1").exists());
        mend(&disk);
        init.wait(SOON).success();
        run(&mut crew.unsealer("unseal")).success();
        crew.vault.wait_for_health(200).unwrap();
    }
}

/// The command succeeds once there is room enough; with any less it changes nothing that matters.
fn needs_room(crew: &mut Crew, disk: &Disk, command: impl Fn(&Crew) -> Command) {
    let before = all_there_is(crew);
    let needed = (0..PAGES).find(|&pages| {
        disk.fill_but(pages);
        let outcome = run(&mut command(crew));
        disk.empty();
        assert!(all_there_is(crew).is_superset(&before), "{pages} pages: {}", outcome.stderr);
        if outcome.code() != 0 {
            assert!(outcome.stderr.contains("free space"), "{pages} pages: {}", outcome.stderr);
        }
        outcome.code() == 0
    });
    assert!(needed > Some(5), "five new shares lie on {needed:?} pages");
    crew.vault.restart();
    run(&mut crew.unsealer("unseal")).success();
}

#[test]
fn a_rekey_on_a_full_disk_loses_nothing() {
    let mut crew = Crew::with_break_glass(Vault::start());
    let Some(disk) = Disk::for_keys_of(&crew) else { return };
    needs_room(&mut crew, &disk, |crew| crew.unsealer("rekey"));
}

#[test]
fn a_disk_that_fills_up_during_a_rekey_loses_nothing() {
    let mut crew = Crew::with_break_glass(Vault::start());
    let Some(disk) = Disk::for_keys_of(&crew) else { return };
    for number in 1.. {
        let before = all_there_is(&crew);
        let proxy = Proxy::start(crew.vault.addresses()[0]);
        proxy.at(Moment::BeforeAnswer, number, {
            let disk = Arc::clone(&disk);
            move || {
                disk.fill_but(0);
                Trouble::None
            }
        });
        let rekey = run(crew.unsealer("rekey").env("VAULT_ADDR", proxy.addr()));
        disk.empty();
        if rekey.code() == 0 && proxy.requests().len() < number {
            assert!(number > 5, "a rekey makes more requests than {number}");
            break;
        }
        assert!(all_there_is(&crew).is_superset(&before) || rekey.code() == 0, "{number}: {}", rekey.stderr);
        crew.vault.restart();
        run(&mut crew.unsealer("unseal")).success();
        crew.vault.wait_for_health(200).unwrap();
        run(&mut crew.unsealer("rekey")).success();
        run(crew.unsealer("check-keys").arg("--prove")).success();
    }
}

#[test]
fn an_adoption_on_a_full_disk_loses_nothing() {
    let mut crew = Crew::with_break_glass(Vault::start());
    fs::rename(crew.path("keys"), crew.path("backup")).unwrap();
    let other = Crew::with_break_glass(Vault::start());
    fs::rename(other.path("keys"), crew.path("keys")).unwrap();
    let Some(disk) = Disk::for_keys_of(&crew) else { return };
    needs_room(&mut crew, &disk, |crew| {
        let mut adopt = crew.unsealer("adopt-keys");
        adopt.arg("backup");
        adopt
    });
}

#[test]
fn a_keys_directory_that_is_somebody_elses_is_refused_before_the_init() {
    if !is_root() {
        eprintln!("NOT TESTED: only root can become somebody else");
        return;
    }
    let crew = Crew::new();
    for name in ["", "root"] {
        fs::create_dir_all(crew.path(name)).unwrap();
        fs::set_permissions(crew.path(name), fs::Permissions::from_mode(0o777)).unwrap();
    }
    fs::create_dir(crew.path("keys")).unwrap();
    for mode in [0o700, 0o755, 0o777] {
        fs::set_permissions(crew.path("keys"), fs::Permissions::from_mode(mode)).unwrap();
        // The program lies where only its builder may go.
        fs::copy(crew.programs.path("unsealer"), crew.path("unsealer")).unwrap();
        let told = crew.unsealer("init");
        let mut init = Command::new(crew.path("unsealer"));
        init.args(told.get_args())
            .env_clear()
            .env("VAULT_ADDR", crew.vault.addr())
            .current_dir(crew.path(""));
        let refused = run(init.uid(65_534).gid(65_534));
        assert_eq!(refused.code(), if mode == 0o700 { 77 } else { 78 }, "{mode:o}: {}", refused.stderr);
        assert!(refused.stderr.contains("keys"), "{mode:o}: {}", refused.stderr);
        assert_eq!(crew.vault.health(), Some(501), "{mode:o}");
    }
}

#[test]
fn a_link_planted_where_a_rekey_writes_is_not_followed() {
    for name in ["rekeyed", "before-rekey", "rekey-requested", "rekey-response.json"] {
        let crew = Crew::with_break_glass(Vault::start());
        crew.write("elsewhere/target", "untouched");
        let target = if name.starts_with("rekey-") { "elsewhere/target" } else { "elsewhere" };
        symlink(crew.path(target), crew.path("keys").join(name)).unwrap();
        let before = all_there_is(&crew);
        let rekey = run(&mut crew.unsealer("rekey"));
        assert_eq!(crew.read("elsewhere/target"), "untouched", "{name}");
        assert_eq!(fs::read_dir(crew.path("elsewhere")).unwrap().count(), 1, "{name}");
        // A note is replaced, and says nothing.
        assert_eq!(rekey.code() == 0, name == "rekey-requested", "{name}: {}", rekey.stderr);
        assert!(all_there_is(&crew).is_superset(&before) || rekey.code() == 0, "{name}: {}", rekey.stderr);
        let _ = fs::remove_file(crew.path("keys").join(name));
        run(crew.unsealer("check-keys").arg("--prove")).success();
    }
}

#[test]
fn a_link_planted_among_the_keys_is_not_followed() {
    for name in ["init-requested", "init-response.json", "unseal-key-1", "break-glass", "rekeyed", "hold"] {
        let crew = Crew::new();
        crew.write("elsewhere/target", "untouched");
        fs::create_dir(crew.path("keys")).unwrap();
        fs::set_permissions(crew.path("keys"), fs::Permissions::from_mode(0o700)).unwrap();
        symlink(crew.path("elsewhere/target"), crew.path("keys").join(name)).unwrap();
        let init = run(&mut crew.unsealer("init"));
        assert_eq!(crew.read("elsewhere/target"), "untouched", "{name}");
        let made: Vec<_> = fs::read_dir(crew.path("elsewhere")).unwrap().collect();
        assert_eq!(made.len(), 1, "{name}");
        // The note is replaced, and a hold says nothing about it; what could hold keys is refused before the init.
        let is_refused = !["init-requested", "hold"].contains(&name);
        assert_eq!(init.code() == 78, is_refused, "{name}: {} {}", init.code(), init.stderr);
        assert_eq!(crew.vault.health(), Some(if is_refused { 501 } else { 503 }), "{name}: {}", init.stderr);
    }
}
