/* What the C tests share: counted checks, and errors that are looked at and freed. */
#ifndef CHECK_H
#define CHECK_H

#include <starttls.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int checks_passed, checks_failed;

#define CHECK(what) check((what), #what, __FILE__, __LINE__)
/* The error is of this word, has a message, and is freed. */
#define FAILS(error, word) fails(&(error), (word), __FILE__, __LINE__)

static bool check(bool holds, const char *what, const char *file, int line) {
    if (holds) {
        checks_passed++;
    } else {
        checks_failed++;
        fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
    }
    return holds;
}

static inline void fails(starttls_error **error, const char *word, const char *file, int line) {
    const char *found = starttls_error_word(*error), *message = starttls_error_message(*error);
    bool same = found != NULL && strcmp(found, word) == 0;
    check(same && message[0] != '\0', word, file, line);
    if (!same)
        fprintf(stderr, "    it was: %s: %s\n", found ? found : "no error", message ? message : "");
    starttls_error_free(*error);
    *error = NULL;
}

static inline bool same(const char *a, const char *b) {
    return a != NULL && b != NULL && strcmp(a, b) == 0;
}

/* No error; if there is one it is shown and freed. */
#define NONE(error) none(&(error), __FILE__, __LINE__)
static inline void none(starttls_error **error, const char *file, int line) {
    const char *message = starttls_error_message(*error);
    check(*error == NULL, message ? message : "", file, line);
    starttls_error_free(*error);
    *error = NULL;
}

static int checks_report(void) {
    printf("%d passed, %d failed\n", checks_passed, checks_failed);
    return checks_failed > 0;
}

#endif
