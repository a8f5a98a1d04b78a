//! Programs that people run, on a mount: they find out about a file system what no list of cases asks.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use mooring_tests::e2e::{Site, fill, same_trees, work};
use mooring_tests::{Output, artifacts, host};

/// Runs a shell script in a folder; it must succeed.
async fn shell(folder: &Path, script: &str) -> Result<Output> {
    let mut command = Command::new("sh");
    command.args(["-euc", script]).current_dir(folder);
    // Whatever this machine's user has set must not matter, nor whose folder it is.
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_COUNT", "1");
    command.env("GIT_CONFIG_KEY_0", "safe.directory").env("GIT_CONFIG_VALUE_0", "*");
    for (name, value) in
        [("AUTHOR_NAME", "a"), ("AUTHOR_EMAIL", "a@b"), ("COMMITTER_NAME", "a"), ("COMMITTER_EMAIL", "a@b")]
    {
        command.env(format!("GIT_{name}"), value);
    }
    host::run(command).await?.ok()
}

#[tokio::test]
async fn git_clones_this_repository_works_in_it_and_finds_it_whole() -> Result<()> {
    let site = Site::with_acme().await?;
    let (mut one, mut two) = (site.machine("acme", "one").await?, site.machine("acme", "two").await?);
    let (here, there) = (one.bucket("data").await?, two.bucket("data").await?);
    let source = artifacts::repository();
    // Copied object by object, as from another machine, not linked.
    shell(&here, &format!("git clone --quiet --no-local '{}' clone", source.display())).await?;
    shell(&here.join("clone"), "git fsck --full --strict && test -z \"$(git status --porcelain)\"").await?;
    let work_in_it = "git checkout --quiet -b topic && echo more >> Cargo.toml && git commit --quiet -am more \
                      && git mv docs papers && git commit --quiet -m moved && git gc --quiet --prune=now \
                      && git fsck --full --strict";
    shell(&here.join("clone"), work_in_it).await?;

    let log = "git log --oneline | head -2 | cut -d' ' -f2 && git fsck --full && git status --porcelain";
    let seen = shell(&there.join("clone"), log).await?.text()?;
    ensure!(seen == "moved\nmore", "the other VM sees {seen:?}");
    Ok(())
}

#[tokio::test]
async fn sqlite_keeps_its_word_in_both_journal_modes() -> Result<()> {
    let site = Site::with_acme().await?;
    let (mut one, mut two) = (site.machine("acme", "one").await?, site.machine("acme", "two").await?);
    let (here, there) = (one.bucket("data").await?, two.bucket("data").await?);
    for mode in ["delete", "wal"] {
        let fill = format!(
            "sqlite3 -bail {mode}.db \"pragma journal_mode={mode}; create table t(id integer primary key, body blob);\" \
             | grep -x {mode}; \
             for n in 1 2 3 4 5 6 7 8 9 10; do \
               sqlite3 -bail {mode}.db \"begin; with recursive c(x) as (select 1 union all select x+1 from c where x<500) \
               insert into t(body) select randomblob(300) from c; commit; delete from t where id % 7 = 0;\"; done; \
             sqlite3 {mode}.db 'vacuum; pragma integrity_check; select count(*) > 4000 from t;'"
        );
        let said = shell(&here, &fill).await?.text()?;
        ensure!(said.ends_with("ok\n1"), "{mode}: {said}");
        let said = shell(&there, &format!("sqlite3 {mode}.db 'pragma integrity_check;'")).await?.text()?;
        ensure!(said == "ok", "{mode} in the other VM: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn two_vms_write_one_database_and_no_row_is_lost() -> Result<()> {
    let site = Site::with_acme().await?;
    let (mut one, mut two) = (site.machine("acme", "one").await?, site.machine("acme", "two").await?);
    let (here, there) = (one.bucket("data").await?, two.bucket("data").await?);
    shell(&here, "sqlite3 shared.db 'create table t(who text, n integer);'").await?;
    let insert = |who: &str| {
        format!(
            "for n in $(seq 25); do \
               sqlite3 -cmd '.timeout 50000' shared.db \"insert into t values('{who}', $n);\"; done"
        )
    };
    let (a, b) = (insert("one"), insert("two"));
    let (a, b) = tokio::join!(shell(&here, &a), shell(&there, &b));
    a.and(b)?;
    let said = shell(&there, "sqlite3 shared.db 'pragma integrity_check; select count(*) from t;'").await?;
    ensure!(said.text()? == "ok\n50", "{}", said.text()?);
    Ok(())
}

#[tokio::test]
async fn an_archive_comes_out_as_it_went_in() -> Result<()> {
    let site = Site::with_acme().await?;
    let (mut one, mut two) = (site.machine("acme", "one").await?, site.machine("acme", "two").await?);
    let (here, there) = (one.bucket("data").await?, two.bucket("data").await?);
    let disk = tempfile::tempdir()?;
    let tree = disk.path().join("tree");
    fs::create_dir(&tree)?;
    fill(&tree)?;
    shell(disk.path(), "tar --xattrs -cf tree.tar tree").await?;

    shell(&here, &format!("tar --xattrs -xpf '{}'", disk.path().join("tree.tar").display())).await?;
    shell(&here, &format!("tar --compare -f '{}'", disk.path().join("tree.tar").display())).await?;
    let (kept, seen) = (tree.clone(), there.join("tree"));
    work(move || same_trees(&kept, &seen)).await?;

    shell(&there, "tar -cf again.tar tree && cp -a tree copied && rm -r tree && mv copied tree").await?;
    shell(&here, "tar --compare -f again.tar").await?;
    let seen = here.join("tree");
    work(move || same_trees(&tree, &seen)).await
}
