import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.Stream;

import de.bwaldvogel.mongo.MongoDatabase;
import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.ArrayFilters;
import de.bwaldvogel.mongo.backend.CollectionOptions;
import de.bwaldvogel.mongo.backend.Cursor;
import de.bwaldvogel.mongo.backend.CursorRegistry;
import de.bwaldvogel.mongo.backend.Index;
import de.bwaldvogel.mongo.backend.QueryParameters;
import de.bwaldvogel.mongo.backend.QueryResult;
import de.bwaldvogel.mongo.backend.memory.MemoryBackend;
import de.bwaldvogel.mongo.backend.memory.MemoryCollection;
import de.bwaldvogel.mongo.backend.memory.MemoryDatabase;
import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.oplog.Oplog;
import de.bwaldvogel.mongo.wire.message.MongoMessage;

/**
 * A server in memory that speaks MongoDB's protocol, on a free port of the loopback
 * interface. It prints its port, and ends when its standard input does: whoever has
 * started it need not live to stop it.
 *
 * <p>mongo-java-server differs from MongoDB in some things that tests notice. What is
 * overridden here does them as MongoDB's documentation has them; each says what it is.
 * There are no TTL, no read or write concerns, no retryable writes and no transactions.
 */
public final class StandIn {
    public static void main(String[] args) throws IOException {
        MongoServer server = new MongoServer(new Backend());
        server.bind("127.0.0.1", 0);
        System.out.println(server.getLocalAddress().getPort());
        System.in.transferTo(OutputStream.nullOutputStream());
        System.exit(0);
    }

    static final class Backend extends MemoryBackend {
        Backend() {
            version(new Version());
        }

        @Override
        public MemoryDatabase openOrCreateDatabase(String name) {
            return new Database(name, getCursorRegistry());
        }

        /** The command hello is known by its old name only. */
        @Override
        public Document handleMessage(MongoMessage message) {
            Document command = message.getDocument();
            boolean hello = command.keySet().iterator().next().equals("hello");
            if (hello) {
                Document renamed = new Document("ismaster", 1);
                renamed.putAll(command);
                command.clear();
                command.putAll(renamed);
            }
            Document answer = super.handleMessage(message);
            if (hello) {
                answer.put("isWritablePrimary", answer.get("ismaster"));
            }
            return answer;
        }
    }

    /** The driver talks to 4.4 and later; the newest version that the server knows calls itself older. */
    static final class Version implements MongoVersion {
        @Override
        public List<Integer> getVersionArray() {
            return List.of(4, 4, 0);
        }

        @Override
        public int getWireVersion() {
            return 9;
        }
    }

    static final class Database extends MemoryDatabase {
        Database(String name, CursorRegistry cursors) {
            super(name, cursors);
        }

        @Override
        protected MemoryCollection openOrCreateCollection(String name, CollectionOptions options) {
            return new Collection(this, name, options, cursorRegistry);
        }
    }

    static final class Collection extends MemoryCollection {
        /** Guarded by this, as everything else: a findAndModify is under way. */
        private boolean modifying;

        Collection(MongoDatabase database, String name, CollectionOptions options, CursorRegistry cursors) {
            super(database, name, options, cursors);
        }

        /** A query that asks for more than the fields of an index would read the whole collection. */
        @Override
        protected QueryResult queryDocuments(Document query, Document orderBy, int skip, int limit, int batchSize, Document fields) {
            for (Index<Integer> index : getIndexes()) {
                Document part = new Document();
                index.getKeys().stream().map(key -> key.getKey()).filter(key -> query.get(key) instanceof String)
                    .forEach(key -> part.put(key, query.get(key)));
                if (!part.isEmpty() && index.canHandle(part)) {
                    return matchDocuments(query, index.getPositions(part), orderBy, skip, limit, batchSize, fields);
                }
            }
            return super.queryDocuments(query, orderBy, skip, limit, batchSize, fields);
        }

        /** Strings are compared by their bytes in UTF-8, not by UTF-16: in ranges of ids... */
        @Override
        protected boolean documentMatchesQuery(Document document, Document query) {
            if (!(query.get("_id") instanceof Document range) || !(document.get("_id") instanceof String id)) {
                return super.documentMatchesQuery(document, query);
            }
            Document rest = new Document(query);
            Document others = new Document(range);
            for (String operator : List.of("$gt", "$lt")) {
                if (range.get(operator) instanceof String bound) {
                    int order = compare(id, bound);
                    if (operator.equals("$gt") ? order <= 0 : order >= 0) {
                        return false;
                    }
                    others.remove(operator);
                }
            }
            rest.remove("_id");
            if (!others.isEmpty()) {
                rest.put("_id", others);
            }
            return super.documentMatchesQuery(document, rest);
        }

        /** ... and where documents are sorted by id. */
        @Override
        protected QueryResult matchDocumentsFromStream(Stream<Document> documents, Document query, Document orderBy,
                                                       int skip, int limit, int batchSize, Document fields) {
            if (orderBy == null || !orderBy.keySet().equals(Set.of("_id"))) {
                return super.matchDocumentsFromStream(documents, query, orderBy, skip, limit, batchSize, fields);
            }
            int direction = ((Number) orderBy.get("_id")).intValue();
            return matchDocumentsFromStream(query, documents, skip, limit, batchSize,
                (a, b) -> direction * compare(a.get("_id").toString(), b.get("_id").toString()), fields);
        }

        private static int compare(String a, String b) {
            return Arrays.compareUnsigned(a.getBytes(StandardCharsets.UTF_8), b.getBytes(StandardCharsets.UTF_8));
        }

        /** What is sent is a copy: the next write may be changing the original meanwhile. */
        @Override
        public synchronized QueryResult handleQuery(QueryParameters parameters) {
            QueryResult found = super.handleQuery(parameters);
            return modifying ? found : new QueryResult(copies(found.collectDocuments()), found.getCursorId());
        }

        @Override
        protected Cursor createCursor(List<Document> documents) {
            return super.createCursor(copies(documents));
        }

        @Override
        public synchronized Document findAndModify(Document query) {
            modifying = true;
            try {
                return super.findAndModify(query).cloneDeeply();
            } finally {
                modifying = false;
            }
        }

        private static List<Document> copies(List<Document> documents) {
            return documents.stream().map(Document::cloneDeeply).collect(Collectors.toCollection(ArrayList::new));
        }

        /** A document that is replaced has its fields in the order of the new one, behind the id. */
        @Override
        public synchronized Document updateDocuments(Document selector, Document update, ArrayFilters filters,
                                                     boolean multi, boolean upsert, Oplog oplog) {
            Document replaced = null;
            if (!update.isEmpty() && update.keySet().stream().noneMatch(key -> key.startsWith("$"))) {
                replaced = queryDocuments(selector, null, 0, 1, 0, null).collectDocuments().stream().findFirst().orElse(null);
            }
            Document result = super.updateDocuments(selector, update, filters, multi, upsert, oplog);
            if (replaced != null) {
                for (String field : update.keySet()) {
                    if (!field.equals("_id")) {
                        replaced.put(field, replaced.remove(field));
                    }
                }
            }
            return result;
        }
    }
}
