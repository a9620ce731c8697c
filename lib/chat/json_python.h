/*
 * json_python.h - JSON and texts byte for byte as Python writes them, because models were trained on texts that
 * Python wrote.
 */
#ifndef DF_CHAT_JSON_PYTHON_H
#define DF_CHAT_JSON_PYTHON_H

#include "base/json.h"

/*
 * Append a value byte for byte as Python's json.dumps(v, ensure_ascii=False) does: on one line with ", " and ": "
 * between, or, where indent > 0, with every member on its own line, as if v were `depth` levels deep.
 */
void df_json_write_python(struct df_buf *out, const struct df_json_value *v, int indent, int depth);
/*
 * Append str(v) of Python: strings as they are, None, True, ['a', 'b'].  For texts that LLaMA-Factory makes with
 * Python's format().
 */
void df_json_str_python(struct df_buf *out, const struct df_json_value *v);

#endif
