//! What the writing half of `docker` and `targets` does to a real Engine: containers made again, containers kept still and
//! brought back, whole applications restored from their documents.

mod again;
mod generated;
mod quiesce;
mod restore;

use std::future::Future;

use bbackup::docker::{Engine, EngineOptions, make};
use serde_json::Value;

use crate::support::engine::Stage;

/// Runs a test's asynchronous part.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(future)
}

async fn connect(stage: &Stage<'_>) -> Engine {
    Engine::connect(&EngineOptions { host: Some(stage.engine().host()), ..EngineOptions::default() }).await.unwrap()
}

async fn inspect(engine: &Engine, container: &str) -> Value {
    make::get(engine, &format!("/containers/{container}/json")).await.unwrap()
}

async fn status(engine: &Engine, container: &str) -> String {
    inspect(engine, container).await["State"]["Status"].as_str().unwrap().to_owned()
}
