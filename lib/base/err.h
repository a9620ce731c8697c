/*
 * err.h - an error is a value with a place in it.
 *
 * Every fallible library function ends with a `struct df_err *err` and returns 0 or one of the negative codes
 * below.  The function that finds the fault states the fact; each caller that knows more about the place (file,
 * dataset, row) puts that in front with df_err_prefix().  The library never prints an error: cmd/ does, once.
 */
#ifndef DF_BASE_ERR_H
#define DF_BASE_ERR_H

#ifdef __cplusplus
extern "C" {
#endif

enum df_code {
	DF_OK = 0,
	DF_EUSAGE = -1,       /* the command line asks for something impossible: exit 64 */
	DF_EFORMAT = -2,      /* input data is malformed, damaged or of the wrong kind: 65 */
	DF_ERANGE = -3,       /* a size or value overflows or is out of range: 65 */
	DF_ELINEAGE = -4,     /* inputs that do not belong together: 65 */
	DF_ENOINPUT = -5,     /* an input does not exist or cannot be opened: 66 */
	DF_EUNSUPPORTED = -6, /* well-formed, but asks for what this build cannot do: 69 */
	DF_EDEVICE = -7,      /* a backend failed: 69 */
	DF_EINTERNAL = -8,    /* a fault of this program, caught by a check: 70 */
	DF_ENOMEM = -9,       /* out of memory: 71 */
	DF_ECREATE = -10,     /* an output cannot be created: 73 */
	DF_EIO = -11,         /* reading or writing failed midway (full disk, EPIPE): 74 */
	DF_ESTOPPED = -12,    /* a signal asked to stop; all work is saved: 75 */
	DF_ECONFIG = -13      /* a configuration file says something impossible: 78 */
};

#define DF_ERR_MAX 1024

/* Caller-owned, no allocation.  A message is cut, never overflowed. */
struct df_err {
	int code;             /* enum df_code */
	const char *file;     /* source place that raised it, for -vv */
	int line;
	int sys;              /* the errno that the message ends with, 0 if none */
	char msg[DF_ERR_MAX]; /* one line, no newline; control characters are escaped */
};

#ifdef __cplusplus
#define DF_ERR_INIT { }
#else
#define DF_ERR_INIT { .code = DF_OK }
#endif

#if defined(__GNUC__)
#define DF_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define DF_MUST_CHECK __attribute__((warn_unused_result))
#else
#define DF_PRINTF(fmt, args)
#define DF_MUST_CHECK
#endif

/*
 * Start an error: sets code and message, returns code so that it can end a
 * function: `return df_fail(err, DF_EFORMAT, "row %zu: no label", row);`.
 * A `err` of NULL is allowed and only the code is returned.  When the format
 * ends in ':' the text of errno is appended, as in perror(3), and err->sys is that errno.
 */
#define df_fail(err, code, ...) (df_fail_at(err, code, __FILE__, __LINE__, __VA_ARGS__), df_err_same(code))
int df_fail_at(struct df_err *err, int code, const char *file, int line, const char *fmt, ...) DF_PRINTF(5, 6);

/* A macro, so that the compiler and the analysers see that df_fail(.., DF_EIO, ..) is not 0. */
static inline int
df_err_same(int code)
{
	return code;
}

/* Put a place in front of the message: df_err_prefix(err, "%s: ", path). */
void df_err_prefix(struct df_err *err, const char *fmt, ...) DF_PRINTF(2, 3);
/* Add a hint at the end of the message: df_err_suffix(err, "; did you mean '%s'?", near). */
void df_err_suffix(struct df_err *err, const char *fmt, ...) DF_PRINTF(2, 3);

/* The sysexits(3) status of a code (0 for DF_OK). */
int df_err_exit_status(int code);

/*
 * Keep the code and go to `out`: for functions with `int rc = DF_OK;` at the top and one `out:` block that releases
 * everything.
 */
#define DF_TRY(call)                         \
	do {                                 \
		if ((rc = (call)) != DF_OK)  \
			goto out;            \
	} while (0)

#ifdef __cplusplus
}
#endif
#endif
