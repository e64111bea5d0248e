"""The engine: rasters, crops, embeddings, prompts and polygons, behind JSON-RPC and a command line. Never with Qt."""
