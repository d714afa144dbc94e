//! The coordinator's metrics of a run: what is counted is read off the core's tally, what is now off the view
//! that progress shows. It must not decide anything.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use qa_shared::model::PoolName;
use qa_shared::queue::{PoolDepth, Queue, Tasks};
use qa_shared::telemetry::instruments::{
    CHUNKS, FLEET_SERVERS, FLEET_SLOTS, JOB_CHUNKS, JOB_CONNECTED, JOB_COST, JOB_DOCUMENTS, JOB_ETA,
    JOB_PAIRS, JOB_STALLED, Label, Metric, PAIRS, QUEUE_AGE, QUEUE_TASKS, SPECULATION, TASKS_REPUBLISHED,
    is_on,
};
use tokio::task::AbortHandle;

use crate::core::Tally;
use crate::view::View;

/// How often the queue is asked for its depth.
const DEPTH_EVERY: Duration = Duration::from_secs(10);

/// Measures a run.
pub(crate) struct RunMetrics {
    now: Arc<Mutex<Now>>,
    counted: Tally,
    depth_watch: Option<AbortHandle>,
}

/// What gauges show.
#[derive(Default)]
struct Now {
    view: Option<View>,
    depth: Option<PoolDepth>,
    /// The finished chunks of the run, and since when it has been so many.
    progress: Option<(u64, Instant)>,
}

impl RunMetrics {
    /// Begins; costs nothing where nobody wants metrics.
    pub(crate) fn start(queue: &Queue, pool: &PoolName) -> Self {
        let now: Arc<Mutex<Now>> = Arc::default();
        let depth_watch = is_on().then(|| {
            observe(&now);
            let watching = watch_depth(queue.clone(), pool.clone(), Arc::clone(&now));
            tokio::spawn(watching).abort_handle()
        });
        Self { now, counted: Tally::default(), depth_watch }
    }

    /// Takes the figures of this moment.
    pub(crate) fn look(&mut self, view: &View, tally: &Tally) {
        if self.depth_watch.is_none() {
            return;
        }
        self.count(&view.job, tally);
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let moves = now.progress.is_none_or(|(finished, _)| finished != view.finished_now);
        if moves || view.published == 0 {
            now.progress = Some((view.finished_now, Instant::now()));
        }
        now.view = Some(view.clone());
    }

    /// Counts what has come since the last time.
    fn count(&mut self, job: &str, tally: &Tally) {
        let before = std::mem::replace(&mut self.counted, tally.clone());
        let results = |count: u64, outcome: &'static str, reason: Option<String>| {
            if count > 0 {
                CHUNKS.add(count, || {
                    let mut labels = of_job(job);
                    labels.push(Label::new("qa.outcome", outcome));
                    labels.extend(reason.map(|reason| Label::new("qa.reason", reason)));
                    labels
                });
            }
        };
        let short = tally.short - before.short;
        results((tally.completed - before.completed).saturating_sub(short), "completed", None);
        results(short, "short", None);
        for (reason, count) in &tally.reasons {
            let known = before.reasons.get(reason).copied().unwrap_or_default();
            results(count - known, "failed", Some(reason.to_string()));
        }
        let ignored = |tally: &Tally| tally.duplicates + tally.ignored;
        results(ignored(tally) - ignored(&before), "ignored", None);
        PAIRS.add(tally.pairs - before.pairs, || of_job(job));
        let (now, then) = (tally.speculation, before.speculation);
        for (count, outcome) in [
            (now.started - then.started, "started"),
            (now.won - then.won, "won"),
            (now.lost - then.lost, "lost"),
        ] {
            SPECULATION.add(count, || {
                let mut labels = of_job(job);
                labels.push(Label::new("qa.outcome", outcome));
                labels
            });
        }
        TASKS_REPUBLISHED.add(tally.republished - before.republished, || of_job(job));
    }
}

impl Drop for RunMetrics {
    fn drop(&mut self) {
        if let Some(watch) = &self.depth_watch {
            watch.abort();
        }
    }
}

fn of_job(job: &str) -> Vec<Label> {
    vec![Label::new("qa.job", job.to_owned())]
}

async fn watch_depth(queue: Queue, pool: PoolName, now: Arc<Mutex<Now>>) {
    let tasks = Tasks::new(&queue);
    loop {
        let depth = tasks.pool_depth(&pool).await.ok().flatten();
        now.lock().unwrap_or_else(PoisonError::into_inner).depth = depth;
        tokio::time::sleep(DEPTH_EVERY).await;
    }
}

type Values<'a> = &'a mut dyn FnMut(f64, Vec<Label>);

fn observe(now: &Arc<Mutex<Now>>) {
    let gauge = |metric: &'static Metric, read: fn(&Now, &View, Values<'_>)| {
        let now = Arc::clone(now);
        metric.observe(move |values| {
            let now = now.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(view) = &now.view {
                read(&now, view, values);
            }
        });
    };
    gauge(&JOB_CHUNKS, |_, view, values| {
        let waiting = view.chunks.saturating_sub(view.completed + view.failed + view.published);
        by_state(
            view,
            values,
            &[
                ("completed", view.completed as f64),
                ("failed", view.failed as f64),
                ("published", view.published as f64),
                ("waiting", waiting as f64),
            ],
        );
    });
    gauge(&JOB_DOCUMENTS, |_, view, values| {
        let open = view.documents.saturating_sub(view.documents_done + view.documents_broken);
        by_state(
            view,
            values,
            &[
                ("done", view.documents_done.into()),
                ("broken", view.documents_broken.into()),
                ("open", open.into()),
            ],
        );
    });
    gauge(&JOB_PAIRS, |_, view, values| values(view.pairs as f64, of_job(&view.job)));
    gauge(&JOB_ETA, |_, view, values| {
        if let Some(eta) = view.eta_seconds {
            values(eta, of_job(&view.job));
        }
    });
    gauge(&JOB_COST, |_, view, values| {
        if let Some(cost) = view.all_runs_cost_usd {
            values(cost, of_job(&view.job));
        }
    });
    gauge(&JOB_CONNECTED, |_, view, values| values(u8::from(view.connected).into(), of_job(&view.job)));
    gauge(&JOB_STALLED, |_, view, values| {
        values(view.stall.as_ref().map_or(0.0, |stall| stall.seconds), of_job(&view.job));
    });
    gauge(&FLEET_SERVERS, |_, view, values| {
        let serving = view.servers.iter().filter(|server| server.serving).count();
        let other = view.servers.len() - serving;
        by_state(view, values, &[("serving", serving as f64), ("other", other as f64)]);
    });
    gauge(&FLEET_SLOTS, |_, view, values| {
        let serving = || view.servers.iter().filter(|server| server.serving);
        let busy: u32 = serving().map(|server| server.busy).sum();
        let slots: u32 = serving().map(|server| server.slots).sum();
        by_state(view, values, &[("busy", busy.into()), ("free", slots.saturating_sub(busy).into())]);
    });
    gauge(&QUEUE_TASKS, |now, view, values| {
        if let Some(depth) = &now.depth {
            by_state(view, values, &[("queued", depth.pending as f64), ("running", depth.in_flight as f64)]);
        }
    });
    gauge(&QUEUE_AGE, |now, view, values| {
        if let Some((_, since)) = now.progress {
            values(since.elapsed().as_secs_f64(), of_job(&view.job));
        }
    });
}

fn by_state(view: &View, values: Values<'_>, states: &[(&'static str, f64)]) {
    for (state, value) in states {
        let mut labels = of_job(&view.job);
        labels.push(Label::new("qa.state", *state));
        values(*value, labels);
    }
}
