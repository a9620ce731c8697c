/*
 * json_python.h - JSON and texts byte for byte as Python writes them: what models were trained on was written so.
 */
#ifndef DF_CHAT_JSON_PYTHON_H
#define DF_CHAT_JSON_PYTHON_H

#include "base/json.h"

/*
 * Append a value byte for byte as Python's json.dumps(v, ensure_ascii=False)
 * does: on one line with ", " and ": " between, or, where indent > 0, with
 * every member on its own line, as though v stood `depth` levels deep.
 */
void df_json_write_python(struct df_buf *out, const struct df_json_value *v, int indent, int depth);
/* Append str(v) of Python: strings as they are, None, True, ['a', 'b'].  For texts that Python's format() made. */
void df_json_str_python(struct df_buf *out, const struct df_json_value *v);

#endif
