mod namespace;
