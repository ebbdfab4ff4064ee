/* life.c - does anybody notice when an instance of a type dies?
 *
 * What is frozen never dies. Of most objects nobody can tell: their deallocation gives memory
 * and references back. Others end something when they die (an interpreter, a connection), or are
 * taken apart by their owner without being asked for their count (executors of the JIT). A flag
 * does not tell one from the other, so they are known by what ends them:
 *
 *   class C(B)  class B   cdef class A(object)   <- tp_dealloc of A: what a class of Python
 *        `---------`------------'                   inherits, looked for along tp_base
 *
 *   none of its own               nobody notices
 *   the interpreter's code, or a  nobody notices, if it is in the list below. What a new version
 *   module's of its library       brings is not, until somebody has looked at it
 *   other code                    nobody notices, if the type cannot be closed: no close(), no
 *                                 fileno(), no `with`. Such code cannot take objects out of the collector's
 *                                 lists but by the public call, which asks whether they are in one.
 *
 * Where code lies is told by the loader: all code of the file that the code of list is from, and of what
 * is loaded from lib-dynload. Not by the process's map: the code of one file may lie in several mappings,
 * and those that were moved to huge pages have no name.
 */
#include "objects/life.h" /* first: Python.h defines _GNU_SOURCE, which dl_iterate_phdr wants */

#include <link.h>
#include <string.h>

/* tp_names of C types of the interpreter and its library, 3.10 to 3.15, whose death ends nothing as far as
 * is known: a scan of each version found those with a tp_dealloc of their own
 * (tests/freeze/cases_lives.py repeats it), and they were sorted by what they are for. Subclasses of int, str, tuple, list,
 * dict, bytes, type and BaseException are known by their flags. Left out on purpose: what ends
 * something (InterpreterID, ChannelID), what others take apart (uop_executor), what holds
 * somebody's buffer, and what is C code's alone (parsers, windows, databases). */
static const char *const harmless[] = {
    "CArgObject", "NoDefaultType", "NoneType", "NotImplementedType", "PyCapsule",
    "builtin_function_or_method", "bytearray", "bytearray_iterator", "bytes_iterator",
    "callable_iterator", "cell", "classmethod", "classmethod_descriptor", "code", "complex",
    "dict_itemiterator", "dict_items", "dict_keyiterator", "dict_keys",
    "dict_reverseitemiterator", "dict_reversekeyiterator", "dict_reversevalueiterator",
    "dict_valueiterator", "dict_values", "ellipsis", "enumerate", "fieldnameiterator",
    "filter", "float", "formatteriterator", "frozendict", "frozenset", "function",
    "generic_alias_iterator", "getset_descriptor", "hamt", "hamt_array_node",
    "hamt_bitmap_node", "hamt_collision_node", "instancemethod", "items", "iterator",
    "keys", "line_iterator", "list_iterator", "list_reverseiterator", "longrange_iterator",
    "map", "mappingproxy", "member_descriptor", "memory_iterator", "method",
    "method-wrapper", "method_descriptor", "module", "odict_iterator", "positions_iterator",
    "property", "range", "range_iterator", "reversed", "sentinel", "set", "set_iterator",
    "slice", "staticmethod", "str_ascii_iterator", "str_iterator", "super", "symtable entry",
    "tuple_iterator", "values", "wrapper_descriptor", "zip", "Token.MISSING",
    "_abc._abc_data", "_blake2.blake2b", "_blake2.blake2s", "_bz2.BZ2Compressor",
    "_bz2.BZ2Decompressor", "_collections._deque_iterator",
    "_collections._deque_reverse_iterator", "_collections._tuplegetter",
    "_contextvars.ContextVar", "_csv.Dialect", "_csv.reader", "_csv.writer",
    "_ctypes.CArgObject", "_ctypes.CField", "_ctypes.CFuncPtr", "_ctypes.CThunkObject",
    "_ctypes.DictRemover", "_ctypes.StructParam_Type", "_ctypes._CData",
    "_elementtree._element_iterator", "_hashlib.HASH", "_hashlib.HMAC", "_hmac.HMAC",
    "_io.IncrementalNewlineDecoder", "_json.Encoder", "_json.Scanner",
    "_lzma.LZMACompressor", "_lzma.LZMADecompressor", "_md5.md5",
    "_multibytecodec.MultibyteCodec", "_multibytecodec.MultibyteIncrementalDecoder",
    "_multibytecodec.MultibyteIncrementalEncoder", "_multibytecodec.MultibyteStreamReader",
    "_multibytecodec.MultibyteStreamWriter", "_pickle.Pdata", "_pickle.Pickler",
    "_pickle.PicklerMemoProxy", "_pickle.Unpickler", "_pickle.UnpicklerMemoProxy",
    "_sha1.sha1", "_sha2.SHA224Type", "_sha2.SHA256Type", "_sha2.SHA384Type",
    "_sha2.SHA512Type", "_sha256.sha224", "_sha256.sha256", "_sha3.sha3_224",
    "_sha3.sha3_256", "_sha3.sha3_384", "_sha3.sha3_512", "_sha3.shake_128",
    "_sha3.shake_256", "_sha512.sha384", "_sha512.sha512", "_sre.SRE_Scanner",
    "_sre.SRE_Template", "_ssl.Certificate", "_ssl.MemoryBIO", "_ssl.SSLSession",
    "_struct.Struct", "_struct.unpack_iterator", "_tokenize.TokenizerIter",
    "_typing._ConstEvaluator", "array.array", "array.arrayiterator", "ast.AST",
    "collections._deque_iterator", "collections._deque_reverse_iterator",
    "collections._tuplegetter", "collections.deque", "compression.zstd.ZstdCompressor",
    "compression.zstd.ZstdDecompressor", "compression.zstd.ZstdDict", "ctypes.CField",
    "datetime.datetime", "datetime.time", "datetime.timezone", "decimal.Context",
    "decimal.ContextManager", "decimal.Decimal", "decimal.SignalDictMixin",
    "functools.KeyWrapper", "functools._PlaceholderType", "functools._lru_cache_wrapper",
    "functools._lru_list_elem", "functools.partial", "itertools._grouper", "itertools._tee",
    "itertools._tee_dataobject", "itertools.accumulate", "itertools.batched",
    "itertools.chain", "itertools.combinations", "itertools.combinations_with_replacement",
    "itertools.compress", "itertools.count", "itertools.cycle", "itertools.dropwhile",
    "itertools.filterfalse", "itertools.groupby", "itertools.islice", "itertools.pairwise",
    "itertools.permutations", "itertools.product", "itertools.repeat", "itertools.starmap",
    "itertools.takewhile", "itertools.zip_longest", "operator.attrgetter",
    "operator.itemgetter", "operator.methodcaller", "os.statx_result", "posix.DirEntry",
    "re.Match", "re.Pattern", "sqlite3.Cache", "sqlite3.Node", "sqlite3.PrepareProtocol",
    "sqlite3.Row", "string.templatelib.Interpolation", "string.templatelib.Template",
    "string.templatelib.TemplateIter", "sys.legacy_event_handler", "types.GenericAlias",
    "types.SimpleNamespace", "types.UnionType", "typing.Generic", "typing.ParamSpec",
    "typing.ParamSpecArgs", "typing.ParamSpecKwargs", "typing.TypeAliasType",
    "typing.TypeVar", "typing.TypeVarTuple", "typing.Union",
    "unicodedata.GraphemeBreakIterator", "unicodedata.Segment", "unicodedata.UCD",
    "weakref.CallableProxyType", "weakref.ProxyType", "weakref.ReferenceType",
    "xml.etree.ElementTree.Element", "xml.etree.ElementTree.TreeBuilder",
    "xml.etree.ElementTree.XMLParser", "zlib.Compress", "zlib.Decompress",
    "zlib._ZlibDecompressor", "zoneinfo.ZoneInfo",
};

/* Methods of what wants to be closed. */
static const char *const closing[] = {
    "close", "fileno", "__exit__", "__aexit__", "shutdown", "cancel", "throw", "terminate",
};

/* Filled when the module is loaded, under the GIL; read only from then on. */
static PyObject *closing_names[Py_ARRAY_LENGTH(closing)];
static destructor class_dealloc; /* of every class made in Python */

int
cf_life_init(void)
{
    for (size_t i = 0; i < Py_ARRAY_LENGTH(closing); i++) {
        closing_names[i] = PyUnicode_InternFromString(closing[i]);
        if (closing_names[i] == NULL || PyObject_Hash(closing_names[i]) == -1) {
            return -1;
        }
    }
    PyObject *type = PyObject_CallFunction((PyObject *)&PyType_Type, "s(){}", "CowfreezeProbe");
    if (type == NULL) {
        return -1;
    }
    class_dealloc = ((PyTypeObject *)type)->tp_dealloc;
    Py_DECREF(type);
    return 0;
}

/* -- whose code ---------------------------------------------------------- */

static bool
is_code(const ElfW(Phdr) *segment)
{
    return segment->p_type == PT_LOAD && (segment->p_flags & PF_X) != 0;
}

static bool
lies_in(const struct dl_phdr_info *file, const ElfW(Phdr) *segment, uintptr_t address)
{
    return address - file->dlpi_addr - segment->p_vaddr < segment->p_memsz;
}

static int
note_file(struct dl_phdr_info *file, size_t size, void *arg)
{
    (void)size;
    cf_own_code *own = arg;
    uintptr_t interpreter = (uintptr_t)PyList_Type.tp_dealloc;
    bool is_own = strstr(file->dlpi_name, "/lib-dynload/") != NULL;
    for (size_t i = 0; i < file->dlpi_phnum && !is_own; i++) {
        is_own = is_code(&file->dlpi_phdr[i]) && lies_in(file, &file->dlpi_phdr[i], interpreter);
    }
    for (size_t i = 0; i < file->dlpi_phnum && is_own; i++) {
        const ElfW(Phdr) *segment = &file->dlpi_phdr[i];
        if (!is_code(segment)) {
            continue;
        }
        if (own->n == CF_MAX_OWN_CODE) {
            own->more = true;
            return 1;
        }
        uintptr_t start = file->dlpi_addr + segment->p_vaddr;
        own->ranges[own->n++] = (cf_range){start, start + segment->p_memsz};
    }
    return 0;
}

void
cf_own_code_find(cf_own_code *own)
{
    own->n = 0;
    own->more = false;
    (void)dl_iterate_phdr(note_file, own);
}

/* If it did not all fit, all code counts as own: the list alone is believed. */
static bool
is_own_code(const cf_own_code *own, destructor function)
{
    for (size_t i = 0; i < own->n; i++) {
        if ((uintptr_t)function - own->ranges[i].start < own->ranges[i].end - own->ranges[i].start) {
            return true;
        }
    }
    return own->more;
}

/* -- what ends it -------------------------------------------------------- */

/* The C type whose tp_dealloc ends instances of TYPE; NULL: there is nothing but their memory. */
static PyTypeObject *
ended_by(PyTypeObject *type)
{
    while (type != NULL && type->tp_dealloc == class_dealloc) {
        type = type->tp_base;
    }
    if (type == NULL || type->tp_dealloc == NULL
        || type->tp_dealloc == PyBaseObject_Type.tp_dealloc) {
        return NULL;
    }
    while (type->tp_base != NULL && type->tp_base->tp_dealloc == type->tp_dealloc) {
        type = type->tp_base;
    }
    return type;
}

static bool
is_harmless(const PyTypeObject *type)
{
    const unsigned long by_flag =
        Py_TPFLAGS_LONG_SUBCLASS | Py_TPFLAGS_LIST_SUBCLASS | Py_TPFLAGS_TUPLE_SUBCLASS
        | Py_TPFLAGS_BYTES_SUBCLASS | Py_TPFLAGS_UNICODE_SUBCLASS | Py_TPFLAGS_DICT_SUBCLASS
        | Py_TPFLAGS_BASE_EXC_SUBCLASS | Py_TPFLAGS_TYPE_SUBCLASS;
    if (type->tp_flags & by_flag) {
        return true;
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(harmless); i++) {
        if (strcmp(type->tp_name, harmless[i]) == 0) {
            return true;
        }
    }
    return false;
}

static bool
can_be_closed(PyTypeObject *type)
{
    PyObject *names = cf_type_dict(type);
    for (size_t i = 0; names != NULL && i < Py_ARRAY_LENGTH(closing); i++) {
        if (PyDict_GetItemWithError(names, closing_names[i]) != NULL) {
            return true;
        }
    }
    return false;
}

bool
cf_dies_unseen(PyTypeObject *type, const cf_own_code *own)
{
    type = ended_by(type);
    if (type == NULL) {
        return true;
    }
    if (is_own_code(own, type->tp_dealloc)) {
        return is_harmless(type);
    }
    for (; type != NULL && type != &PyBaseObject_Type; type = type->tp_base) {
        if (ended_by(type) == type && is_own_code(own, type->tp_dealloc)) {
            return is_harmless(type);
        }
        if (can_be_closed(type)) {
            return false;
        }
    }
    return true;
}
