//! Random operations on objects.

use super::*;

impl Run {
    pub(super) fn condition(&self) -> Condition {
        let some = |run: &Run| Some(run.pick(&["*", "none", "\"e1\""]).to_string());
        match self.below(8) {
            0 => Condition { if_match: some(self), if_none_match: None },
            1 => Condition { if_match: None, if_none_match: some(self) },
            _ => Condition::default(),
        }
    }

    pub(super) async fn stage(&mut self, cx: &Caller, cy: &Caller, data: &Bytes) -> (Staged, Staged) {
        let (one, two) = (self.volume.stage(cx).await.unwrap(), self.oracle.stage(cy).await.unwrap());
        for chunk in data.chunks(70_001) {
            let chunk = Bytes::copy_from_slice(chunk);
            self.volume.stage_write(cx, one, chunk.clone()).await.unwrap();
            self.oracle.stage_write(cy, two, chunk).await.unwrap();
        }
        (one, two)
    }

    pub(super) async fn put(&mut self) {
        let (cx, cy) = self.object_callers().await;
        let (data, key, when) = (self.bytes(), *self.pick(&KEYS), self.condition());
        let (one, two) = self.stage(&cx, &cy, &data).await;
        match self.below(8) {
            // Left lying about, to be found by a crash.
            0 => return self.staged.push((one, two)),
            1 => {
                self.log.push("abort an upload".into());
                self.volume.stage_abort(&cx, one).await.unwrap();
                return self.oracle.stage_abort(&cy, two).await.unwrap();
            }
            _ => {}
        }
        let etag = format!("e{}", self.below(4));
        self.known.insert(etag.clone());
        let meta = ObjectMeta { user: vec![("by".into(), etag.clone())], ..ObjectMeta::default() };
        let what = format!("put {key:?} below {:?}, {} bytes, {when:?}", cx.root, data.len());
        self.log.push(what.clone());
        let first = self.volume.put(&cx, one, key.as_bytes(), etag.clone(), meta.clone(), &when).await;
        let second = self.oracle.put(&cy, two, key.as_bytes(), etag, meta, &when).await;
        if same(&first, &second, &what) {
            let (first, second) = (first.unwrap(), second.unwrap());
            assert_eq!(first.touched.len(), second.touched.len(), "{what}");
            assert_eq!(first.replaced.is_some(), second.replaced.is_some(), "{what}");
            assert_eq!(first.object.size, second.object.size, "{what}");
            self.learn(first.object.ino, second.object.ino);
            for (one, two) in first.touched.into_iter().zip(second.touched) {
                self.learn(one, two);
            }
        }
    }

    /// Callers for the door of objects: of the whole bucket or of a share, which is a directory that is there.
    pub(super) async fn object_callers(&mut self) -> (Caller, Caller) {
        let (cx, cy) = self.callers();
        let shown = self.oracle.getattr(&at(self.now), cy.root).await;
        match shown {
            Ok(attr) if attr.kind == FileKind::Dir && attr.nlink > 0 => (cx, cy),
            _ => (at(self.now), at(self.now)),
        }
    }

    pub(super) async fn delete(&mut self) {
        let (cx, cy) = self.object_callers().await;
        let (key, when) = (*self.pick(&KEYS), self.condition());
        let what = format!("delete {key:?} below {:?} {when:?}", cx.root);
        self.log.push(what.clone());
        let one = self.volume.delete(&cx, key.as_bytes(), &when).await;
        let two = self.oracle.delete(&cy, key.as_bytes(), &when).await;
        if same(&one, &two, &what) {
            let touched =
                |deleted: Option<mooring_store::api::Deleted>| deleted.map(|deleted| deleted.touched.len());
            assert_eq!(touched(one.unwrap()), touched(two.unwrap()), "{what}");
        }
    }

    pub(super) async fn list(&mut self) {
        let (cx, cy) = self.object_callers().await;
        let query = ListQuery {
            prefix: self.pick(&["", "a", "a/", "a/b", "dir/", "/", "a//"]).as_bytes().to_vec(),
            delimiter: self.pick(&[None, Some("/"), Some("/"), Some("b")]).map(|d| d.as_bytes().to_vec()),
            after: if self.below(2) == 0 { Vec::new() } else { self.pick(&KEYS).as_bytes().to_vec() },
            limit: 1 + self.below(6) as usize,
        };
        let what = format!("list {query:?} below {:?}", cx.root);
        self.log.push(what.clone());
        let one = self.volume.list(&cx, &query).await.unwrap();
        let two = self.oracle.list(&cy, &query).await.unwrap();
        let keys = |page: &mooring_store::api::ListPage| {
            page.objects
                .iter()
                .map(|object| (object.key.clone(), object.size, object.marker))
                .collect::<Vec<_>>()
        };
        assert_eq!(keys(&one), keys(&two), "{what}");
        assert_eq!((one.prefixes, one.next), (two.prefixes, two.next), "{what}");
    }

    pub(super) async fn multipart(&mut self) {
        let (cx, cy) = (at(self.now + 1), at(self.now + 1));
        self.now += 1;
        if self.uploads.is_empty() || self.below(4) == 0 {
            let key = *self.pick(&KEYS);
            self.log.push(format!("begin upload {key}"));
            let one = self.volume.upload_create(&cx, key.as_bytes(), ObjectMeta::default()).await.unwrap();
            let two = self.oracle.upload_create(&cy, key.as_bytes(), ObjectMeta::default()).await.unwrap();
            return self.uploads.push((key.to_owned(), one.id, two.id));
        }
        let (key, one, two) = self.pick(&self.uploads).clone();
        let key = key.as_bytes();
        if self.below(3) > 0 {
            let number = 1 + self.below(4) as u16;
            let data = self.bytes();
            let (first, second) = self.stage(&cx, &cy, &data).await;
            let etag = format!("{:032x}", number);
            let part =
                PartInfo { number, size: data.len() as u64, etag, checksums: Vec::new(), modified: cx.now };
            let what = format!("part {number} of {} bytes", data.len());
            self.log.push(what.clone());
            let first = self.volume.upload_part(&cx, key, &one, part.clone(), first).await;
            same(&first, &self.oracle.upload_part(&cy, key, &two, part, second).await, &what);
            return;
        }
        let parts: Vec<(u16, String)> =
            (1..=4).filter(|_| self.below(3) > 0).map(|number| (number, format!("{number:032x}"))).collect();
        let what = format!("complete or abort with {parts:?}");
        self.log.push(what.clone());
        if self.below(4) == 0 {
            let first = self.volume.upload_abort(&cx, key, &one).await;
            same(&first, &self.oracle.upload_abort(&cy, key, &two).await, &what);
            return;
        }
        let when = self.condition();
        let first = self.volume.upload_complete(&cx, key, &one, &parts, Vec::new(), &when).await;
        let second = self.oracle.upload_complete(&cy, key, &two, &parts, Vec::new(), &when).await;
        if same(&first, &second, &what) {
            let (first, second) = (first.unwrap().object, second.unwrap().object);
            assert_eq!(first.size, second.size, "{what}");
            self.known.insert(first.etag);
            self.learn(first.ino, second.ino);
        }
    }
}
