/* spm.cc - the SentencePiece library behind a C face: see spm.h. */
/* SPDX-License-Identifier: MIT */
#include <sentencepiece_processor.h>

#include <exception>
#include <new>
#include <string>
#include <vector>

/* The headers are C: their struct members need nothing from C++. */
extern "C" {
#include "text/spm.h"
}

struct t5_spm {
    sentencepiece::SentencePieceProcessor processor;
};

namespace {

int fail(struct t5_err *err, const char *what)
{
    char shown[T5_ESCAPED];
    size_t n = 0;
    while (n < 200 && what[n])
        n++;
    return t5_fail(err, "SentencePiece: %s", t5_escape(shown, what, n));
}

/* Runs f; whatever it throws becomes an error. */
template <typename F> int guarded(struct t5_err *err, F f)
{
    try {
        return f();
    } catch (const std::bad_alloc &) {
        return t5_fail_memory(err, 0, "SentencePiece");
    } catch (const std::exception &e) {
        return fail(err, e.what());
    } catch (...) {
        return fail(err, "unknown exception");
    }
}

} // namespace

int t5_spm_open(struct t5_spm **out, const void *model, size_t n, struct t5_err *err)
{
    *out = nullptr;
    return guarded(err, [&]() {
        auto *spm = new t5_spm;
        const auto status =
            spm->processor.LoadFromSerializedProto({static_cast<const char *>(model), n});
        if (!status.ok()) {
            const int rc = fail(err, status.message());
            delete spm;
            return rc;
        }
        *out = spm;
        return 0;
    });
}

void t5_spm_close(struct t5_spm *spm) { delete spm; }

int t5_spm_encode(struct t5_buf *out, const struct t5_spm *spm, const char *text, size_t n,
                  struct t5_err *err)
{
    return guarded(err, [&]() {
        std::vector<int> ids;
        const auto status = spm->processor.Encode({text, n}, &ids);
        if (!status.ok())
            return fail(err, status.message());
        return t5_buf_append(out, ids.data(), ids.size() * sizeof(int), err);
    });
}

const struct t5_segment_library t5_spm_library = {t5_spm_open, t5_spm_close, t5_spm_encode};
