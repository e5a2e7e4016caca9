//! The paths that have columns, as a tree of names: which number a path has, how many cells, and how many bytes.
//! There is never more of them than the limit, whatever twins hold.

use std::collections::HashMap;

use hub_domain::query::{Path, Root};

use crate::limits::Limits;

/// The number of a path.
pub type PathId = u32;

pub const STATUS: PathId = 0;
pub const STATUS_REASON: PathId = 1;
pub const AUTHENTICATION_TYPE: PathId = 2;
pub const MODEL_ID: PathId = 3;
pub const MODULE_ID: PathId = 4;
pub const EDGE: PathId = 5;
pub const CONNECTION_STATE: PathId = 6;
pub const DESIRED_VERSION: PathId = 7;
pub const REPORTED_VERSION: PathId = 8;
pub const TAGS: PathId = 9;
pub const DESIRED: PathId = 10;
pub const REPORTED: PathId = 11;
pub const CONFIGURATIONS: PathId = 12;

/// The parent of a number that no path has.
const NO_PARENT: PathId = PathId::MAX;

/// The paths that are always there, by their numbers.
const SYSTEM_NAMES: [&str; 13] = [
    "status",
    "statusReason",
    "authenticationType",
    "modelId",
    "moduleId",
    "capabilities.iotEdge",
    "connectionState",
    "properties.desired.$version",
    "properties.reported.$version",
    "tags",
    "properties.desired",
    "properties.reported",
    "configurations",
];

/// Where the values of a path are to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the columns with this number.
    Column(PathId),
    /// Nowhere: no row has it.
    Nowhere,
    /// In the twins alone.
    Twin,
}

/// What a path takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathMemory {
    /// As in a query, but without brackets.
    pub path: String,
    /// Rows that have it.
    pub rows: u64,
    /// Bytes of its columns.
    pub bytes: u64,
    /// Whether it has columns; otherwise it took too much.
    pub is_indexed: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Paths {
    nodes: Vec<Node>,
    free: Vec<PathId>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Node {
    parent: PathId,
    name: Box<str>,
    children: HashMap<Box<str>, PathId>,
    /// See [`Paths::child_behind`].
    next: PathId,
    rows: usize,
    bytes: usize,
    is_given_up: bool,
}

impl Default for Paths {
    fn default() -> Self {
        let node = |name: &&str| Node { name: (*name).into(), ..Node::default() };
        Self { nodes: SYSTEM_NAMES.iter().map(node).collect(), free: Vec::new(), bytes: 0 }
    }
}

impl Paths {
    /// The child of a path, if it is known.
    pub fn child(&self, parent: PathId, name: &str) -> Option<PathId> {
        self.nodes[parent as usize].children.get(name).copied()
    }

    /// The child of a path, made if need be; `None` if there are too many paths.
    pub fn child_or_new(&mut self, parent: PathId, name: &str, limits: &Limits) -> Option<PathId> {
        if let Some(id) = self.child(parent, name) {
            return Some(id);
        }
        if self.len() >= limits.paths_max {
            return None;
        }
        let node = Node { parent, name: name.into(), ..Node::default() };
        let id = match self.free.pop() {
            Some(id) => {
                self.nodes[id as usize] = node;
                id
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() as PathId - 1
            }
        };
        self.nodes[parent as usize].children.insert(name.into(), id);
        Some(id)
    }

    /// The same for who goes through twin after twin and was at `last`: mostly the path that came next the last time comes again.
    pub fn child_behind(
        &mut self,
        last: PathId,
        parent: PathId,
        name: &str,
        limits: &Limits,
    ) -> Option<PathId> {
        let next = self.nodes[last as usize].next;
        let node = &self.nodes[next as usize];
        if node.parent == parent && *node.name == *name {
            return Some(next);
        }
        let child = self.child_or_new(parent, name, limits)?;
        self.nodes[last as usize].next = child;
        Some(child)
    }

    /// Makes the paths of another tree known here: the number of each by its number there, `None` for one too many.
    pub fn adopt(&mut self, other: &Paths, limits: &Limits) -> Vec<Option<PathId>> {
        let mut numbers: Vec<Option<PathId>> = (0..SYSTEM_NAMES.len() as PathId).map(Some).collect();
        // Nothing was ever released there, so each comes behind its parent.
        for Node { parent, name, .. } in &other.nodes[SYSTEM_NAMES.len()..] {
            let number = numbers[*parent as usize].and_then(|parent| self.child_or_new(parent, name, limits));
            numbers.push(number);
        }
        numbers
    }

    /// Paths that are known besides those that always are.
    fn len(&self) -> usize {
        self.nodes.len() - self.free.len() - SYSTEM_NAMES.len()
    }

    /// Whether the path has columns.
    pub fn is_indexed(&self, id: PathId) -> bool {
        !self.nodes[id as usize].is_given_up
    }

    /// Notes how much a path has more or less.
    pub fn account(&mut self, id: PathId, rows: isize, bytes: isize) {
        let node = &mut self.nodes[id as usize];
        node.rows = node.rows.wrapping_add_signed(rows);
        node.bytes = node.bytes.wrapping_add_signed(bytes);
        self.bytes = self.bytes.wrapping_add_signed(bytes);
    }

    /// Forgets the path, and those above it, if nothing has it any more.
    pub fn release(&mut self, mut id: PathId) {
        while id as usize >= SYSTEM_NAMES.len() {
            let node = &mut self.nodes[id as usize];
            let is_used = node.rows > 0 || !node.children.is_empty() || node.is_given_up;
            if is_used || node.parent == NO_PARENT {
                return;
            }
            let Node { parent, name, .. } =
                std::mem::replace(node, Node { parent: NO_PARENT, ..Node::default() });
            self.nodes[parent as usize].children.remove(&name);
            self.free.push(id);
            id = parent;
        }
    }

    /// The path to give up, if all together take too much: the largest.
    pub fn too_large(&self, limits: &Limits) -> Option<PathId> {
        if self.bytes <= limits.bytes_max {
            return None;
        }
        let largest = (0..self.nodes.len()).max_by_key(|id| self.nodes[*id].bytes)?;
        (self.nodes[largest].bytes > 0).then_some(largest as PathId)
    }

    /// Notes that a path has no columns any more, and gets none.
    pub fn give_up(&mut self, id: PathId) {
        let node = &mut self.nodes[id as usize];
        self.bytes -= node.bytes;
        (node.rows, node.bytes, node.is_given_up) = (0, 0, true);
    }

    /// Bytes of all columns.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where the values of `path` are.
    pub fn resolve(&self, path: &Path) -> Place {
        let segments = path.segments();
        let scalar = |id| match (segments.is_empty(), self.is_indexed(id)) {
            (true, true) => Place::Column(id),
            (true, false) => Place::Twin,
            (false, _) => Place::Nowhere,
        };
        match path.root() {
            Root::Unknown => Place::Nowhere,
            Root::Status => scalar(STATUS),
            Root::StatusReason => scalar(STATUS_REASON),
            Root::AuthenticationType => scalar(AUTHENTICATION_TYPE),
            Root::ModelId => scalar(MODEL_ID),
            Root::ModuleId => scalar(MODULE_ID),
            Root::ConnectionState => scalar(CONNECTION_STATE),
            Root::Capabilities => match segments {
                [only] if only == "iotEdge" && self.is_indexed(EDGE) => Place::Column(EDGE),
                _ => Place::Twin,
            },
            Root::Tags => self.below(TAGS, segments),
            Root::Desired => self.section(DESIRED, DESIRED_VERSION, segments),
            Root::Reported => self.section(REPORTED, REPORTED_VERSION, segments),
            Root::Configurations => match segments {
                [_, only] if only == "status" => self.below(CONFIGURATIONS, &segments[..1]),
                _ => Place::Twin,
            },
            _ => Place::Twin,
        }
    }

    fn section(&self, section: PathId, version: PathId, segments: &[String]) -> Place {
        match segments {
            [only] if only == "$version" && self.is_indexed(version) => Place::Column(version),
            [first, ..] if first.starts_with('$') => Place::Twin,
            segments => self.below(section, segments),
        }
    }

    fn below(&self, section: PathId, segments: &[String]) -> Place {
        if segments.is_empty() {
            return Place::Twin;
        }
        let found = segments.iter().try_fold(section, |id, name| self.child(id, name));
        match found {
            Some(id) if self.is_indexed(id) => Place::Column(id),
            Some(_) => Place::Twin,
            // Rows whose paths are too many are marked, and not looked for in columns.
            None => Place::Nowhere,
        }
    }

    /// What every path takes, in no order.
    pub fn memory(&self) -> Vec<PathMemory> {
        let ids = (0..self.nodes.len() as PathId).filter(|id| {
            let node = &self.nodes[*id as usize];
            node.rows > 0 || node.is_given_up
        });
        let all = ids.map(|id| {
            let node = &self.nodes[id as usize];
            PathMemory {
                path: self.name(id),
                rows: node.rows as u64,
                bytes: node.bytes as u64,
                is_indexed: !node.is_given_up,
            }
        });
        all.collect()
    }

    /// A path as text.
    pub fn name(&self, mut id: PathId) -> String {
        let mut names = vec![&*self.nodes[id as usize].name];
        while id as usize >= SYSTEM_NAMES.len() {
            id = self.nodes[id as usize].parent;
            names.push(&self.nodes[id as usize].name);
        }
        names.reverse();
        names.join(".")
    }
}
