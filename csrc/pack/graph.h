/* graph.h - the walk of a pack: each object of the source, and its copy. */
#ifndef CF_PACK_GRAPH_H
#define CF_PACK_GRAPH_H

#include "pack/store.h"

/* The copy of ROOT and all that it refers to; NULL: an exception, or work.refused. */
PyObject *cf_pack_graph(cf_packer *p, PyObject *root);

#endif
